"""AdEMAMix."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.core.space import Choice, Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State
from thalweg.engine.rule import require


@dataclass(frozen=True)
class AdEMAMixRule(Rule):
    """The formula of `AdEMAMix`."""

    betas: tuple[float, float, float] = (0.9, 0.999, 0.9999)
    alpha: float = 2.0
    beta3_warmup: int | None = None
    alpha_warmup: int | None = None
    eps: float = 1e-8

    def check(self) -> None:
        """Refuse a negative alpha and warm-ups below one step."""
        super().check()
        require(self, "alpha", self.alpha >= 0, "at least 0")
        for name in ("beta3_warmup", "alpha_warmup"):
            steps = getattr(self, name)
            require(self, name, steps is None or steps >= 1, "None or at least 1 step")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the fast mean (unless beta1 is 0), the slow mean and the mean square, zero."""
        names = ["exp_avg_slow", "exp_avg_sq"]
        if self.betas[0] > 0:
            names.insert(0, "exp_avg_fast")
        return {name: torch.zeros_like(p) for name in names}

    def scalars(self, t: int) -> dict[str, float]:
        """Return the betas, alpha as far as it has risen, eps and the bias corrections."""
        beta1, beta2, beta3 = self.betas
        alpha = self.alpha
        if self.alpha_warmup is not None and t < self.alpha_warmup:
            alpha *= t / self.alpha_warmup
        if self.beta3_warmup is not None and t < self.beta3_warmup:
            share = t / self.beta3_warmup
            beta3 = _from_half_life((1 - share) * _half_life(beta1) + share * _half_life(beta3))
        return {
            "beta1": beta1,
            "beta2": beta2,
            "beta3": beta3,
            "alpha": alpha,
            "eps": self.eps,
            "bias_correction1": 1 - beta1**t,
            "root_bias_correction2": (1 - beta2**t) ** 0.5,
        }

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the two means, mixed, over the root of the mean square."""
        del p
        fast = s.exp_avg_fast.lerp_(g, 1 - k.beta1) if hasattr(s, "exp_avg_fast") else g
        slow = s.exp_avg_slow.lerp_(g, 1 - k.beta3)
        v = s.exp_avg_sq.mul_(k.beta2).add_(g * g, alpha=1 - k.beta2)
        mixed = fast / k.bias_correction1 + slow * k.alpha
        return mixed / (v.sqrt() / k.root_bias_correction2 + k.eps)


def _half_life(beta: float) -> float:
    """Return the steps after which a mean has forgotten half, less one."""
    return math.log(0.5) / math.log(beta + 1e-8) - 1


def _from_half_life(steps: float) -> float:
    return 0.5 ** (1 / (1 + steps))


class AdEMAMix(
    RuleOptimizer,
    rule=AdEMAMixRule,
    slug="ademamix",
    reference="Pagliardini, Ablin & Grangier 2025, arXiv 2409.03137",
    space={
        "lr": Log(1e-4, 1e-1),
        "alpha": Choice((2.0, 5.0, 8.0)),
        "weight_decay": Log(1e-3, 1.0),
    },
):
    r"""AdEMAMix: AdamW with a second, slow mean of the gradients beside the fast one.

    ::

        m1 <- beta1 m1 + (1 - beta1) g
        m2 <- beta3(t) m2 + (1 - beta3(t)) g              (no bias correction)
        v  <- beta2 v + (1 - beta2) g^2
        p  <- (1 - lr weight_decay) p
              - lr (m1 / (1 - beta1^t) + alpha(t) m2) / (sqrt(v) / sqrt(1 - beta2^t) + eps)

    During its warm-up of T steps alpha rises linearly, ``alpha t / T``, and beta3 from beta1 so
    that its half-life does. The authors train with alpha 8 and both warm-ups as long as the run.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate.
        betas: decay of the fast mean, of the mean square, and of the slow mean, each in [0, 1).
        alpha: weight of the slow mean.
        beta3_warmup: steps over which beta3 rises, None for none.
        alpha_warmup: steps over which alpha rises, None for none.
        eps: keeps the quotient finite.
        weight_decay: decoupled.

    State: ``exp_avg_fast`` (m1; absent if beta1 is 0), ``exp_avg_slow`` (m2), ``exp_avg_sq`` (v).

    Reference: Pagliardini, Ablin & Grangier, "The AdEMAMix Optimizer: Better, Faster, Older",
    ICLR 2025, arXiv 2409.03137. Steps count from 1 and alpha defaults to 2 as in the authors'
    PyTorch code (their Optax code counts from 0 and defaults to 5), and so is the 1e-8 that is
    added to a beta before its half-life is taken, which makes beta1 = 0 possible.
    """
