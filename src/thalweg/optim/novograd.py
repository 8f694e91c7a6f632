"""NovoGrad."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State


@dataclass(frozen=True)
class NovoGradRule(Rule):
    """The formula of `NovoGrad`."""

    betas: tuple[float, float] = (0.95, 0.0)
    eps: float = 1e-8
    grad_averaging: bool = False

    def init(self, p: Tensor) -> dict[str, Any]:
        """Return the momentum, and the mean squared norm as a number, zero."""
        return {"exp_avg": torch.zeros_like(p), "exp_avg_sq": 0.0}

    def scalars(self, t: int) -> dict[str, float]:
        """Return the betas, eps and the weight of what enters the momentum."""
        del t
        beta1, beta2 = self.betas
        entering = 1 - beta1 if self.grad_averaging else 1.0
        return {"beta1": beta1, "beta2": beta2, "eps": self.eps, "entering": entering}

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return lr and 0: weight decay enters the momentum."""
        return k.lr, 0.0

    def measure_each(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> dict[str, Tensor]:
        """Return the squared norm of the gradient."""
        del p, s, k
        return {"square": (g * g).sum()}

    def numbers_each(
        self, sums: Mapping[str, float], p: Tensor, s: State, k: Numbers
    ) -> dict[str, float]:
        """Return the root of the mean squared norm."""
        del p
        v, square = s.exp_avg_sq, sums["square"]
        s.exp_avg_sq = v + (1 - k.beta2) * (square - v) if v != 0 else square
        return {"root": s.exp_avg_sq**0.5 + k.eps}

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the momentum of normalised gradients."""
        d = g / k.root + p * k.weight_decay
        return s.exp_avg.mul_(k.beta1).add_(d, alpha=k.entering)


class NovoGrad(
    RuleOptimizer,
    rule=NovoGradRule,
    slug="novograd",
    reference="Ginsburg et al. 2019, arXiv 1905.11286",
    space={"lr": Log(1e-4, 1e-1), "weight_decay": Log(1e-4, 1e-1)},
):
    r"""NovoGrad: momentum of gradients that are normalised tensor by tensor.

    ::

        v <- beta2 v + (1 - beta2) |g|^2                (a number; |g|^2 itself while v is 0)
        m <- beta1 m + g / (sqrt(v) + eps) + weight_decay p
        p <- p - lr m

    When to use: speech and other convolutional networks with large batches, where it bears rates
    from a wide range without a warm-up, at half of Adam's state.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate.
        betas: decay of the momentum and of the mean squared norm, each in [0, 1).
        eps: keeps the quotient finite.
        grad_averaging: what enters the momentum is multiplied by 1 - beta1.
        weight_decay: joins the normalised gradient.

    State: ``exp_avg`` (m), a tensor like the parameter, and ``exp_avg_sq`` (v), a number.

    Reference: Ginsburg et al., "Stochastic Gradient Methods with Layer-wise Adaptive Moments for
    Training of Deep Networks" (2019), arXiv 1905.11286; formula and defaults of the authors' code
    at NVIDIA, where beta2 = 0 normalises by the newest norm alone.
    """
