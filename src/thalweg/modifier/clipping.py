"""Gradients that are too large, made smaller."""

import math
from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from thalweg.core.checks import check_number
from thalweg.core.errors import UsageError
from thalweg.core.space import Log
from thalweg.engine import Modifier, Numbers, State


class ClipValue(
    Modifier,
    slug="clip-value",
    order=20,
    name="Clipping by value",
    reference="torch.nn.utils.clip_grad_value_",
    space={"limit": Log(1e-2, 1e1)},
):
    """Clips every entry of the gradient: ``g <- min(max(g, -limit), limit)``.

    Args:
        limit: in the units of the gradient, > 0.
    """

    limit: float = 1.0

    def check(self) -> None:
        """Refuse a limit that is not positive."""
        check_number("clip-value: limit", self.limit, "(0, inf]")

    def gradient(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the clipped gradient."""
        del p, s
        return g.clamp(-k.limit, k.limit)


def _shrinking(norm: float, limit: float) -> dict[str, float]:
    """Return the factor that torch's clipping by norm has; NaN if the norm is NaN."""
    factor = limit / (norm + 1e-6)
    return {"factor": 1.0 if factor >= 1 else factor}


class ClipNorm(
    Modifier,
    slug="clip-norm",
    order=30,
    name="Clipping by norm",
    reference="Pascanu et al. 2013, arXiv 1211.5063",
    space={"max_norm": Log(1e-2, 1e2)},
):
    r"""Clips the norm of all gradients together: ``g <- g min(1, max_norm / (|g| + 1e-6))``.

    The norm is ``|g| = (sum |g_i|^norm_type)^(1 / norm_type)``, Euclidean by default, over every
    tensor of every group and process, so that the direction stays. NaN or infinity anywhere in
    the gradient reaches every tensor.

    Args:
        max_norm: in the units of the gradient, > 0.
        norm_type: as in `torch.nn.utils.clip_grad_norm_`, finite and at least 1. The largest
            entry (infinity) is no sum and is not taken; `ClipValue` bounds entries.

    Reference: Pascanu et al., "On the difficulty of training recurrent neural networks", ICML
    2013, arXiv 1211.5063; the 1e-6 is torch's.
    """

    scope: ClassVar[Literal["all", "each"]] = "all"

    max_norm: float = 1.0
    norm_type: float = field(default=2.0, metadata={"structural": True})

    def check(self) -> None:
        """Refuse a norm that is not positive, and one that is no sum."""
        check_number(f"{self.slug}: max_norm", self.max_norm, "(0, inf]")
        if self.norm_type == math.inf:
            raise UsageError(
                f"{self.slug}: norm_type must be finite, found inf: the largest entry is not "
                "clipped by a sum; use clip-value, which bounds every entry"
            )
        check_number(f"{self.slug}: norm_type", self.norm_type, "[1, inf)")

    def measure(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Mapping[str, Tensor]:
        """Return the sum of powers."""
        del p, s, k
        powers = g * g if self.norm_type == 2 else g.abs() ** self.norm_type
        return {"power": powers.sum()}

    def measured(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return the factor."""
        return _shrinking(sums["power"] ** (1 / self.norm_type), self.max_norm)

    def gradient(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the clipped gradient."""
        del p, s
        return g * k.factor


class ClipLayer(
    ClipNorm,
    slug="clip-layer",
    order=40,
    name="Clipping by layer",
    reference="torch.nn.utils.clip_grad_norm_ on each tensor",
    space={"max_norm": Log(1e-2, 1e2)},
):
    """Clips the norm of each tensor's gradient: ``g <- g min(1, max_norm / (|g| + 1e-6))``.

    Args:
        max_norm: in the units of the gradient, > 0.
        norm_type: of the norm, as for `ClipNorm`.
    """

    scope: ClassVar[Literal["all", "each"]] = "each"


class AdaptiveClip(
    Modifier,
    slug="adaptive-clip",
    order=10,
    name="Adaptive gradient clipping",
    reference="Brock et al. 2021, arXiv 2102.06171",
    space={"clipping": Log(1e-3, 1e0)},
):
    r"""Clips each unit's gradient by the norm of its weights (AGC).

    With a unit the slice of a tensor along its first axis (all of it for vectors and scalars)::

        g_i <- g_i min(1, clipping max(|p_i|, eps) / |g_i|)

    Args:
        clipping: largest ratio of the two norms, > 0.
        eps: floor of the weights' norm, so that zero weights can move, > 0.

    Reference: Brock et al., "High-Performance Large-Scale Image Recognition Without
    Normalization", 2021, arXiv 2102.06171. The authors leave the last layer unclipped: give it a
    second optimiser for that.
    """

    clipping: float = 0.01
    eps: float = 1e-3

    def check(self) -> None:
        """Refuse what is not positive."""
        check_number("adaptive-clip: clipping", self.clipping, "(0, inf]")
        check_number("adaptive-clip: eps", self.eps, "(0, inf)")

    def prepare(self, g: Tensor, p: Tensor) -> Tensor:
        """Return the clipped gradient."""
        if g.numel() == 0:
            return g
        axes = tuple(range(1, g.ndim)) if g.ndim > 1 else None
        norm = torch.linalg.vector_norm(g, dim=axes, keepdim=True)
        limit = self.clipping * torch.linalg.vector_norm(p, dim=axes, keepdim=True).clamp(self.eps)
        return torch.where(norm > limit, g * (limit / norm), g)


class MedianGradient(
    Modifier,
    slug="median-gradient",
    order=50,
    name="Median gradient",
    reference="Schaipp et al. 2024, arXiv 2402.12828",
    space={"tau": Log(1e-3, 1e1)},
):
    r"""Replaces the gradient by a running estimate of its median.

    One step of the stochastic proximal point method on a robust location loss, from the estimate
    m of the step before (zero at first); the rule then sees m::

        l2:  m <- m + min(1, tau / |g - m|) (g - m)      (geometric median, all tensors together)
        l1:  m <- m + min(max(g - m, -tau), tau)         (of each entry)

    With mu above 0 the loss is Huber's, quadratic up to the distance mu, and its proximal step is::

        l2:  m <- m + tau / max(mu + tau, |g - m|) (g - m)
        l1:  m <- m + min(max(tau / (mu + tau) (g - m), -tau), tau)

    which lies between the median (mu = 0) and the mean: for a mu above all distances it is the
    moving average with weight tau / (mu + tau). tau to infinity is the plain gradient. Clipping
    the gradient itself is the same with m forgotten at every step.

    Args:
        tau: largest move of m, in the units of the gradient, > 0.
        norm: "l2" or "l1".
        mu: distance up to which the loss is quadratic, in the units of the gradient, at least 0.

    State: ``median`` (m), like the parameter.

    Reference: Schaipp et al., "SGD with Clipping is Secretly Estimating the Median Gradient",
    2024, arXiv 2402.12828. No code of the authors for it was found; this follows the formulas as
    they are generally stated, with Huber's step derived from them. The paper's other form, the
    median of one batch's gradients sample by sample, is not here: an optimiser is given their
    mean alone.
    """

    scope: ClassVar[Literal["all", "each"]] = "all"

    tau: float = 1.0
    norm: Literal["l2", "l1"] = "l2"
    mu: float = 0.0

    def check(self) -> None:
        """Refuse a tau that is not positive and a negative mu."""
        check_number("median-gradient: tau", self.tau, "(0, inf]")
        check_number("median-gradient: mu", self.mu, "[0, inf)")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the estimate, zero."""
        return {"median": torch.zeros_like(p)}

    def measure(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Mapping[str, Tensor]:
        """Return the squared distance from the estimate."""
        del p, k
        away = g - s.median
        return {"square": (away * away).sum()}

    def measured(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return how far to go towards the gradient, near it and now; NaN for a NaN distance."""
        distance, near = math.sqrt(sums["square"]), 1 / (1 + self.mu / self.tau)
        share = near if distance <= self.mu + self.tau else self.tau / distance
        return {"near": near, "share": share}

    def gradient(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Move the estimate on and return it."""
        del p
        away = g - s.median
        if self.norm == "l2":
            return s.median.add_(away * k.share)
        move = (away * k.near).clamp(-k.tau, k.tau)
        return s.median.add_(move)
