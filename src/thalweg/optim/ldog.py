"""L-DoG."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State
from thalweg.engine.rule import require


@dataclass(frozen=True)
class LDoGRule(Rule):
    """The formula of `LDoG`."""

    lr: float = 1.0
    reps_rel: float = 1e-6
    eps: float = 1e-8
    init_eta: float | None = None

    def check(self) -> None:
        """Refuse a first distance or step that is not positive."""
        super().check()
        require(self, "reps_rel", self.reps_rel > 0, "positive")
        require(self, "init_eta", self.init_eta is None or self.init_eta > 0, "None or positive")

    def init(self, p: Tensor) -> dict[str, Any]:
        """Return a copy of the start, the largest distance and the sum of squares."""
        return {"x0": p.detach().clone(), "rbar": 0.0, "grad_sum_sq": self.eps}

    def measure_each(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> dict[str, Tensor]:
        """Return the squared norms of the gradient, the start and the distance from it."""
        g = g + p * k.weight_decay
        far = p - s.x0
        return {
            "gradient": (g * g).sum(),
            "start": (s.x0 * s.x0).sum(),
            "distance": (far * far).sum(),
        }

    def numbers_each(
        self, sums: Mapping[str, float], p: Tensor, s: State, k: Numbers
    ) -> dict[str, float]:
        """Return the step: the largest distance so far over the root of the sum of squares."""
        del p
        first = self.reps_rel * (1 + sums["start"] ** 0.5) if self.init_eta is None else 0.0
        s.rbar = max(sums["distance"] ** 0.5, first, s.rbar)
        s.grad_sum_sq += sums["gradient"]
        root = s.grad_sum_sq**0.5
        if self.init_eta is not None and s.rbar == 0:
            return {"eta": self.init_eta / k.lr if k.lr > 0 else 0.0}
        return {"eta": s.rbar / root if root != 0 else 0.0}

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return lr and 0: weight decay joins the gradient."""
        return k.lr, 0.0

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the gradient, weight decay included, times the step."""
        del s
        return (g + p * k.weight_decay) * k.eta


class LDoG(
    RuleOptimizer,
    rule=LDoGRule,
    slug="ldog",
    name="L-DoG",
    reference="Ivgi, Hinder & Carmon 2023, arXiv 2302.12022",
    space={"lr": Log(0.1, 10.0), "weight_decay": Log(1e-6, 1e-2)},
):
    r"""L-DoG: DoG with a step of its own for each tensor.

    With norms over the tensor alone and x0 its start::

        G    <- G + |g|^2,                      G = eps at first
        rbar <- max(rbar, |p - x0|),            rbar = reps_rel (1 + |x0|) at first
        p    <- p - lr rbar / sqrt(G) g

    When to use: as `DoG`, where layers differ much in scale; its authors find it the stronger of
    the two in fine-tuning, and the less stable. **Evaluate an average**, such as
    `thalweg.average.PolynomialDecay`.

    Args:
        params: see `RuleOptimizer`.
        lr: multiplies the step; leave it at 1.
        reps_rel: first distance, relative to 1 + |x0|: so small that the first step does no harm;
            1e-4 for nets with batch norm.
        eps: keeps the quotient finite.
        init_eta: what multiplies the first gradient whatever lr is, unless 0, in place of
            ``reps_rel``.
        weight_decay: coupled (L2).

    State: ``x0``, one tensor like the parameter, and two numbers, ``rbar`` and ``grad_sum_sq``
    (G).

    Reference: Ivgi, Hinder & Carmon, "DoG is SGD's Best Friend: A Parameter-Free Dynamic Step
    Size Schedule", ICML 2023, arXiv 2302.12022; defaults and ``init_eta`` of the authors' code.
    """
