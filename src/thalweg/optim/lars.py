"""LARS."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State
from thalweg.engine.rule import require


@dataclass(frozen=True)
class LARSRule(Rule):
    """The formula of `LARS`."""

    lr: float = 1.0
    momentum: float = 0.9
    trust_coefficient: float = 1e-3
    adapt: bool = True

    def check(self) -> None:
        """Refuse a negative momentum and a trust that is not positive."""
        super().check()
        require(self, "momentum", self.momentum >= 0, "at least 0")
        require(self, "trust_coefficient", self.trust_coefficient > 0, "above 0")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the momentum, zero."""
        return {"momentum_buffer": torch.zeros_like(p)}

    def scalars(self, t: int) -> dict[str, float]:
        """Return the momentum."""
        del t
        return {"momentum": self.momentum}

    def measure_each(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> dict[str, Tensor]:
        """Return the squared norms of the tensor and of its gradient."""
        del s, k
        return {"weight": (p * p).sum(), "gradient": (g * g).sum()}

    def numbers_each(
        self, sums: Mapping[str, float], p: Tensor, s: State, k: Numbers
    ) -> dict[str, float]:
        """Return the tensor's own rate."""
        del p, s
        weight, gradient = sums["weight"] ** 0.5, sums["gradient"] ** 0.5
        if not (self.adapt and weight > 0 and gradient > 0):
            return {"rate": k.lr}
        trust = self.trust_coefficient * weight / (gradient + k.weight_decay * weight)
        return {"rate": k.lr * trust}

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return 1 and 0: the momentum is one of whole steps."""
        del k
        return 1.0, 0.0

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the momentum of steps."""
        g = g.add(p, alpha=k.weight_decay)
        return s.momentum_buffer.mul_(k.momentum).add_(g * k.rate)


class LARS(
    RuleOptimizer,
    rule=LARSRule,
    slug="lars",
    reference="You et al. 2017, arXiv 1708.03888",
    space={"lr": Log(3e-1, 1e2), "weight_decay": Log(1e-6, 1e-2)},
):
    r"""LARS: SGD with momentum whose rate in every tensor follows its norm over its gradient's.

    ::

        rate = lr trust_coefficient |p| / (|g| + weight_decay |p|)    (where a norm is 0: lr)
        b <- momentum b + rate (g + weight_decay p)
        p <- p - b

    When to use: large batches on convolutional networks, and self-supervised training, with a
    warm-up. Biases and the scales of norms are better left out: a parameter group with
    ``adapt=False`` and a rate of SGD's size.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate; far larger than SGD's, as ``trust_coefficient`` multiplies it.
        momentum: weight of the buffer.
        trust_coefficient: how far a tensor moves, relative to its norm, at lr = 1.
        adapt: let the rate follow the norms, else SGD with momentum.
        weight_decay: coupled (L2).

    State: ``momentum_buffer`` (b), a tensor like the parameter.

    Reference: You, Gitman & Ginsburg, "Large Batch Training of Convolutional Networks" (2017),
    arXiv 1708.03888, algorithm 1: rates enter the momentum, so that a schedule acts on new
    gradients alone. Code that scales gradients instead (MoCo v3, Apex) differs under a schedule;
    some code takes the norm of g + weight_decay p for the divisor.
    """
