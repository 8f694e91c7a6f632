"""Gradients before a rule and directions after it, changed by what they point along."""

import math
from collections.abc import Mapping

from torch import Tensor

from thalweg.core.checks import check_number
from thalweg.core.space import Log
from thalweg.engine import Modifier, Numbers, State
from thalweg.engine.cautious import Scaling, scale


class CentralizeGradient(
    Modifier,
    slug="centralize",
    order=5,
    name="Gradient centralization",
    reference="Yong et al. 2020, arXiv 2004.01461",
):
    """Takes the mean from each unit's gradient: ``g_i <- g_i - mean(g_i)``.

    A unit is the slice of a tensor along its first axis; vectors and scalars stay as they are.

    Reference: Yong et al., "Gradient Centralization: A New Optimization Technique for Deep Neural
    Networks", ECCV 2020, arXiv 2004.01461.
    """

    def prepare(self, g: Tensor, p: Tensor) -> Tensor:
        """Return the centralised gradient."""
        del p
        if g.ndim < 2 or g.numel() == 0:
            return g
        return g - g.mean(dim=tuple(range(1, g.ndim)), keepdim=True)


class Cautious(
    Modifier,
    slug="cautious",
    order=70,
    name="Cautious mask",
    reference="Liang et al. 2024, arXiv 2411.16085",
):
    r"""Moves only the entries in which direction and gradient agree, and those further.

    With ``agree = 1[d g > 0]`` over one tensor of n entries::

        d <- d agree scale
        scale = 1 / max(mean(agree), 1e-3)     ("mean")
        scale = n / (sum(agree) + 1)           ("count")

    Around `Adafactor` in the paper's form with ``beta1``, "count" is the published C-Adafactor.

    Args:
        scaling: "mean", the authors' present code, or "count", the paper's.

    Reference: Liang et al., "Cautious Optimizers: Improving Training with One Line of Code", 2024,
    arXiv 2411.16085.
    """

    scaling: Scaling = "mean"

    def of_shape(self, p: Tensor) -> dict[str, float]:
        """Return the number of entries."""
        return {"entries": float(p.numel())}

    def measure_direction(
        self, d: Tensor, g: Tensor, p: Tensor, s: State, k: Numbers
    ) -> Mapping[str, Tensor]:
        """Return how many entries agree."""
        del p, s, k
        return {"agreeing": (d * g > 0).sum()}

    def measured(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return the scale."""
        return {"scale": scale(self.scaling, sums["agreeing"], sums["entries"])}

    def direction(self, d: Tensor, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the masked direction; NaN stays NaN."""
        del p, s
        return d * (d * g > 0) * k.scale


class ProjectRadial(
    Modifier,
    slug="project-radial",
    order=80,
    name="Projection of the radial part",
    reference="Heo et al. 2020, arXiv 2006.08217",
):
    """Takes the part along the weights from the direction: ``d <- d - <d, p> / <p, p> p``.

    Over each tensor with two axes or more as a whole; vectors and scalars keep theirs. Weights
    whose scale does not matter, as before a normalisation, then grow no faster than they turn.

    Reference: Heo et al., "AdamP: Slowing Down the Slowdown for Momentum Optimizers on
    Scale-invariant Weights", ICLR 2021, arXiv 2006.08217, which projects only where a test finds
    the weights to be scale-invariant; this projects always.
    """

    def of_shape(self, p: Tensor) -> dict[str, float]:
        """Return 1 for tensors with two axes or more, else 0."""
        return {"projects": float(p.ndim >= 2)}

    def measure_direction(
        self, d: Tensor, g: Tensor, p: Tensor, s: State, k: Numbers
    ) -> Mapping[str, Tensor]:
        """Return both products."""
        del g, s, k
        return {"along": (d * p).sum(), "square": (p * p).sum()}

    def measured(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return how many times the weights lie in the direction."""
        if not sums["projects"] or sums["square"] == 0:
            return {"share": 0.0}
        return {"share": sums["along"] / sums["square"]}

    def direction(self, d: Tensor, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the direction without its radial part."""
        del g, s
        return d - p * k.share


class ClipUpdate(
    Modifier,
    slug="clip-update",
    order=90,
    name="Update clipping",
    reference="Shazeer & Stern 2018, arXiv 1804.04235",
    space={"limit": Log(1e-1, 1e1)},
):
    """Clips the root mean square of each tensor's direction: ``d <- d / max(1, rms(d) / limit)``.

    Args:
        limit: largest root mean square, before the learning rate, > 0.

    Reference: Shazeer & Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost",
    ICML 2018, arXiv 1804.04235, section 6.
    """

    limit: float = 1.0

    def check(self) -> None:
        """Refuse a limit that is not positive."""
        check_number("clip-update: limit", self.limit, "(0, inf]")

    def of_shape(self, p: Tensor) -> dict[str, float]:
        """Return the number of entries."""
        return {"entries": float(p.numel())}

    def measure_direction(
        self, d: Tensor, g: Tensor, p: Tensor, s: State, k: Numbers
    ) -> Mapping[str, Tensor]:
        """Return the sum of squares."""
        del g, p, s, k
        return {"square": (d * d).sum()}

    def measured(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return the factor."""
        rms = math.sqrt(sums["square"] / max(sums["entries"], 1.0))
        return {"factor": 1.0 if rms <= self.limit else self.limit / rms}

    def direction(self, d: Tensor, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the clipped direction."""
        del g, p, s
        return d * k.factor
