"""Ano and Anolog."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State, sign
from thalweg.engine.rule import require


@dataclass(frozen=True)
class _SignAndSize(Rule):
    """The mean's sign and the gradient's size; who derives from it gives the numbers."""

    lr: float = 1e-4
    eps: float = 1e-8

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return both moments, zero."""
        return {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the gradient's size with the mean's sign, over the root of v."""
        del p
        m, v, square = s.exp_avg.lerp_(g, 1 - k.beta1), s.exp_avg_sq, g * g
        surprise = sign(square - v) * square
        v.mul_(k.beta2).add_(surprise, alpha=1 - k.beta2)
        return g.abs() * sign(m) / (v / k.bias_correction2 + k.eps).sqrt()


@dataclass(frozen=True)
class AnoRule(_SignAndSize):
    """The formula of `Ano`."""

    betas: tuple[float, float] = (0.92, 0.99)
    bias_correction: bool = True

    def scalars(self, t: int) -> dict[str, float]:
        """Return the betas, eps and the bias correction, if any."""
        beta1, beta2 = self.betas
        correction = 1 - beta2**t if self.bias_correction else 1.0
        return {"beta1": beta1, "beta2": beta2, "eps": self.eps, "bias_correction2": correction}


class Ano(
    RuleOptimizer,
    rule=AnoRule,
    slug="ano",
    reference="Kegreisz 2026, arXiv 2508.18258",
    space={"lr": Log(3e-5, 1e-2), "weight_decay": Log(1e-3, 1.0)},
):
    r"""Ano: the direction from the mean's sign, the length from the gradient of the step.

    ::

        m <- beta1 m + (1 - beta1) g
        v <- beta2 v + (1 - beta2) sign(g^2 - v) g^2
        p <- (1 - lr weight_decay) p - lr |g| sign(m) / sqrt(v / (1 - beta2^t) + eps)

    v stays positive while beta2 is at least 1/2.

    When to use: very noisy or drifting gradients (reinforcement learning, small batches), where
    the length of Adam's mean shrinks; at less than Adam's learning rate. With little noise it is
    about as good as Adam.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate.
        eps: keeps the quotient finite, inside the root.
        betas: decay of the mean and of the mean square, each in [0, 1).
        bias_correction: correct v, else use it as it is; the first step is then
            1 / sqrt(1 - beta2) times as long.
        weight_decay: decoupled.

    State: ``exp_avg`` (m) and ``exp_avg_sq`` (v), two tensors like the parameter.

    Reference: Kegreisz, "Ano: Faster is Better in Noisy Landscapes", ICLR 2026, arXiv 2508.18258;
    the author's code. Its v also fades by beta2, which Yogi's, after which it is made, does not.
    """


@dataclass(frozen=True)
class AnologRule(_SignAndSize):
    """The formula of `Anolog`."""

    beta2: float = 0.99
    bias_correction: bool = True
    schedule_offset: int = 0

    def check(self) -> None:
        """Refuse a decay outside [0, 1) and a negative offset."""
        super().check()
        require(self, "beta2", 0 <= self.beta2 < 1, "in [0, 1)")
        require(self, "schedule_offset", self.schedule_offset >= 0, "at least 0")

    def scalars(self, t: int) -> dict[str, float]:
        """Return the betas, eps and the bias correction, if any."""
        return {
            "beta1": 1 - 1 / math.log(max(2, t + self.schedule_offset)),
            "beta2": self.beta2,
            "eps": self.eps,
            "bias_correction2": 1 - self.beta2**t if self.bias_correction else 1.0,
        }


class Anolog(
    RuleOptimizer,
    rule=AnologRule,
    slug="anolog",
    reference="Kegreisz 2026, arXiv 2508.18258",
    space={"lr": Log(3e-5, 1e-2), "weight_decay": Log(1e-3, 1.0)},
):
    r"""Anolog: Ano whose mean looks back further with every step.

    ::

        beta1 = 1 - 1 / log(max(2, t + schedule_offset))
        m <- beta1 m + (1 - beta1) g
        v <- beta2 v + (1 - beta2) sign(g^2 - v) g^2
        p <- (1 - lr weight_decay) p - lr |g| sign(m) / sqrt(v / (1 - beta2^t) + eps)

    While t + schedule_offset is at most 2, beta1 is negative (-0.44): the second step goes
    against the first gradient's share. An offset of 2, as in the paper's analysis, avoids it.

    When to use: as `Ano`, without a momentum to choose.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate.
        eps: keeps the quotient finite, inside the root.
        beta2: decay of the mean square, in [0, 1).
        bias_correction: correct v, else use it as it is; the first step is then
            1 / sqrt(1 - beta2) times as long.
        schedule_offset: how many steps the mean's decay is ahead, at least 0.
        weight_decay: decoupled.

    State: ``exp_avg`` (m) and ``exp_avg_sq`` (v), two tensors like the parameter.

    Reference: Kegreisz, "Ano: Faster is Better in Noisy Landscapes", ICLR 2026, arXiv 2508.18258.
    The defaults are those of the author's package; the code of the experiments has beta2 = 0.999
    and no correction. The offset in the analysis is known from a summary by others.
    """
