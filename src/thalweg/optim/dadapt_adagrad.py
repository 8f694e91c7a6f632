"""AdaGrad with D-Adaptation."""

import math
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, RuleOptimizer, State
from thalweg.engine.d_adaptation import DAdaptation
from thalweg.engine.rule import require


@dataclass(frozen=True)
class DAdaptAdaGradRule(DAdaptation):
    """The formula of `DAdaptAdaGrad`."""

    lr: float = 1.0
    momentum: float = 0.0
    eps: float = 1e-6
    d0: float = 1e-6
    growth_rate: float = math.inf

    def check(self) -> None:
        """Refuse a momentum outside [0, 1)."""
        super().check()
        require(self, "momentum", 0 <= self.momentum < 1, "in [0, 1)")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the sum of weighted gradients, zero, that of squares, and a copy of the start."""
        start = {"s": torch.zeros_like(p), "x0": p.detach().clone()}
        return {**start, "sum": torch.full_like(p, 1e-6)}

    def scalars(self, t: int) -> dict[str, float]:
        """Return the share of the old point, which is all at lr = 0, and eps."""
        del t
        moves = 1.0 if self.lr > 0 else 0.0
        momentum = self.momentum if moves else 1.0
        return {"momentum": momentum, "eps": self.eps, "moves": moves}

    def measure(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> dict[str, Tensor]:
        """Return the squares of the step and the next s, by AdaGrad's metric, and |s|_1; or 0."""
        g = g + p * k.weight_decay
        root = (s.sum + g * g).sqrt() + k.eps
        step = g * (k.d * k.lr)
        moved = s.s + step
        return {
            "step": (step * step / root).sum(),
            "moved": (moved * moved / root * k.moves).sum(),
            "denominator": (moved.abs() * k.moves).sum(),
        }

    def advance(self, shared: MutableMapping[str, float], measured: Mapping[str, float]) -> None:
        """Estimate the distance anew. Without any gradient yet, stand still."""
        shared["d_last"] = shared["d"]
        shared["numerator"] += measured["step"]
        if measured["denominator"] != 0:
            bound = (measured["moved"] - shared["numerator"]) / measured["denominator"]
            shared["d"] = self.grown(shared["d"], bound)

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return 1 and 0: `update` returns the whole movement."""
        return 1.0, 0.0

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the way to z = x0 - s / root, shortened by momentum."""
        g = g + p * k.weight_decay
        root = s.sum.add_(g * g * k.moves).sqrt() + k.eps
        z = s.x0 - s.s.add_(g * (k.d_last * k.lr)) / root
        return (p - z) * (1 - k.momentum)


class DAdaptAdaGrad(
    RuleOptimizer,
    rule=DAdaptAdaGradRule,
    slug="dadapt-adagrad",
    name="D-Adapt AdaGrad",
    reference="Defazio & Mishchenko 2023, arXiv 2301.07733",
    space={"lr": Log(0.1, 10.0), "weight_decay": Log(1e-6, 1e-2)},
):
    r"""D-Adapt AdaGrad: AdaGrad that estimates its learning rate from the distance travelled.

    With one estimate d for all parameters and sums over all tensors::

        a  <- a + g^2,   a = 1e-6 at first
        s  <- s + d lr g
        B  <- B + sum (d lr g)^2 / (sqrt(a) + eps)
        d'  = max(d, min((sum s^2 / (sqrt(a) + eps) - B) / sum |s|_1, growth_rate d))
        z   = x0 - s / (sqrt(a) + eps)
        p  <- momentum p + (1 - momentum) z

    d never shrinks.

    A tensor whose lr is 0 rests: it and its state stay as they are, and the sums do without it. A
    step with lr = 0 in all groups is as if it had not been.

    When to use: sparse or convex problems that AdaGrad serves well; its d grows more slowly than
    that of `DAdaptAdam`, which its authors prefer. Leave lr at 1 and give it a schedule.

    Args:
        params: see `RuleOptimizer`.
        lr: multiplies the estimate; equal in all groups, or 0.
        momentum: share of the old point, in [0, 1).
        eps: keeps the quotient finite.
        d0: first estimate, below the true distance.
        growth_rate: bound on the growth of d in one step.
        weight_decay: coupled (L2).

    State: ``s``, ``sum`` (a) and ``x0``, three tensors like the parameter; in each group the
    numbers ``d``, ``d_last`` and ``numerator`` (B).

    Reference: Defazio & Mishchenko, "Learning-Rate-Free Learning by D-Adaptation", ICML 2023,
    arXiv 2301.07733; defaults and order of the authors' code, which has a + g^2 at lr = 0 too.
    """
