"""DoG."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State
from thalweg.engine.rule import require


@dataclass(frozen=True)
class DoGRule(Rule):
    """The formula of `DoG`."""

    shares: ClassVar[Literal["run", "group"]] = "group"

    lr: float = 1.0
    reps_rel: float = 1e-6
    eps: float = 1e-8
    init_eta: float | None = None

    def check(self) -> None:
        """Refuse a first distance or step that is not positive."""
        super().check()
        require(self, "reps_rel", self.reps_rel > 0, "positive")
        require(self, "init_eta", self.init_eta is None or self.init_eta > 0, "None or positive")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return a copy of the start."""
        return {"x0": p.detach().clone()}

    def shared(self) -> dict[str, float]:
        """Return the number of steps, the largest distance, the sum of squares, the step."""
        return {"k": 0, "rbar": 0.0, "grad_sum_sq": self.eps, "eta": 0.0}

    def measure(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> dict[str, Tensor]:
        """Return the squared norms of the gradient, the start and the distance from it."""
        g = g + p * k.weight_decay
        far = p - s.x0
        return {
            "gradient": (g * g).sum(),
            "start": (s.x0 * s.x0).sum(),
            "distance": (far * far).sum(),
        }

    def advance(self, shared: MutableMapping[str, float], measured: Mapping[str, float]) -> None:
        """Set the step: lr times the largest distance over the root of the sum of squares."""
        distance = measured["distance"] ** 0.5
        if shared["k"] == 0 and self.init_eta is None:
            distance = self.reps_rel * (1 + measured["start"] ** 0.5)
        shared["k"] += 1
        shared["rbar"] = max(distance, shared["rbar"])
        shared["grad_sum_sq"] += measured["gradient"]
        root = shared["grad_sum_sq"] ** 0.5
        shared["eta"] = self.lr * shared["rbar"] / root if root != 0 else 0.0
        if shared["rbar"] == 0 and self.init_eta is not None and self.lr > 0:
            shared["eta"] = self.init_eta

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return eta and 0: weight decay joins the gradient."""
        return k.eta, 0.0

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the gradient, weight decay included."""
        del s
        return g + p * k.weight_decay


class DoG(
    RuleOptimizer,
    rule=DoGRule,
    slug="dog",
    reference="Ivgi, Hinder & Carmon 2023, arXiv 2302.12022",
    space={"lr": Log(0.1, 10.0), "weight_decay": Log(1e-6, 1e-2)},
):
    r"""DoG: SGD whose step is the distance from the start over the root of the squared gradients.

    With norms over all tensors of a group and x0 the start::

        G    <- G + |g|^2,                      G = eps at first
        rbar <- max(rbar, |p - x0|),            rbar = reps_rel (1 + |x0|) at first
        p    <- p - lr rbar / sqrt(G) g

    Rescaling the loss does not change the path (up to eps). Groups have distances and sums of
    their own; tensors in one group step alike.

    When to use: SGD without a learning rate to tune, above all fine-tuning. **Evaluate an
    average**: there is no decay of the step, and the authors rely on their averaging of the
    weights, `thalweg.average.PolynomialDecay`.

    Args:
        params: see `RuleOptimizer`.
        lr: multiplies the step; leave it at 1.
        reps_rel: first distance, relative to 1 + |x0|: so small that the first step does no harm;
            1e-4 for nets with batch norm.
        eps: keeps the quotient finite.
        init_eta: what multiplies the first gradient whatever lr is, unless 0, in place of
            ``reps_rel``.
        weight_decay: coupled (L2).

    State: ``x0``, one tensor like the parameter; in each group the numbers ``k`` (steps),
    ``rbar``, ``grad_sum_sq`` (G) and ``eta`` (the last step, lr included).

    Reference: Ivgi, Hinder & Carmon, "DoG is SGD's Best Friend: A Parameter-Free Dynamic Step
    Size Schedule", ICML 2023, arXiv 2302.12022; defaults, groups and ``init_eta`` of the authors'
    code.
    """
