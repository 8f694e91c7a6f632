"""Lion with D-Adaptation."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, RuleOptimizer, State, sign
from thalweg.engine.d_adaptation import AveragedDAdaptation


@dataclass(frozen=True)
class DAdaptLionRule(AveragedDAdaptation):
    """The formula of `DAdaptLion`."""

    lr: float = 1.0
    betas: tuple[float, float] = (0.9, 0.99)
    d0: float = 1e-6
    growth_rate: float = math.inf

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the mean and the sum of the steps, zero."""
        return {name: torch.zeros_like(p) for name in ("exp_avg", "s")}

    def scalars(self, t: int) -> dict[str, float]:
        """Return the betas and the decay of the sum; at lr = 0 state keeps all of itself."""
        del t
        moves = 1.0 if self.lr > 0 else 0.0
        return {
            "beta1": self.betas[0],
            "beta2": self.betas[1] if moves else 1.0,
            "q": self.betas[1] ** 0.5 if moves else 1.0,
            "moves": moves,
        }

    def measure(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> dict[str, Tensor]:
        """Return the product of the step with s and the next |s|_1; 0 at lr = 0."""
        del p
        step = self._signs(g, s, k) * (k.d * k.lr)
        return {
            "product": (step * s.s).sum(),
            "denominator": ((s.s * k.q + step * (1 - k.q)).abs() * k.moves).sum(),
        }

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return d lr, with the d before this step, and the decay that goes with it."""
        return k.d_last * k.lr, k.d_last * k.lr * k.weight_decay

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the signs of the interpolated mean."""
        del p
        rate = k.d_last * k.lr
        signs = self._signs(g, s, k)
        s.exp_avg.mul_(k.beta2).add_(g * (rate * (1 - k.beta2)))
        s.s.mul_(k.q).add_(signs * (rate * (1 - k.q)))
        return signs

    def _signs(self, g: Tensor, s: State, k: Numbers) -> Tensor:
        return sign(s.exp_avg * k.beta1 + g * (1 - k.beta1))


class DAdaptLion(
    RuleOptimizer,
    rule=DAdaptLionRule,
    slug="dadapt-lion",
    name="D-Adapt Lion",
    reference="Defazio & Mishchenko 2023, arXiv 2301.07733",
    space={"lr": Log(0.1, 10.0), "weight_decay": Log(1e-3, 1.0)},
):
    r"""D-Adapt Lion: steps of equal size, as long as the estimated distance says.

    With one estimate d for all parameters, ``rate = d lr``, q = sqrt(beta2), and sums over all
    tensors::

        u  = sign(beta1 m + (1 - beta1) g)
        N <- q N + (1 - q) rate <u, s>
        s <- q s + (1 - q) rate u
        m <- beta2 m + (1 - beta2) rate g
        d' = max(d, min(N / ((1 - q) sum |s|_1), growth_rate d))
        p <- (1 - rate weight_decay) p - rate u

    m holds gradients times the rate, so that u is nearly the sign of the gradient alone while
    d is small against 1. d never shrinks.

    A tensor whose lr is 0 rests: it and its state stay as they are, and the sums do without it. A
    step with lr = 0 in all groups is as if it had not been.

    When to use: Lion without a learning rate to tune; the least tested of its family. Leave lr
    at 1 and give it a schedule.

    Args:
        params: see `RuleOptimizer`.
        lr: multiplies the estimate; equal in all groups, or 0.
        betas: decay of the mean in the step and in the state, each in [0, 1).
        d0: first estimate, below the true distance.
        growth_rate: bound on the growth of d in one step.
        weight_decay: decoupled.

    State: ``exp_avg`` (m) and ``s``, two tensors like the parameter; in each group the numbers
    ``d``, ``numerator`` (N) and ``k``, and the last step's ``d_last`` and ``k_last``.

    Reference: the authors' code beside Defazio & Mishchenko, "Learning-Rate-Free Learning by
    D-Adaptation", ICML 2023, arXiv 2301.07733, which does not describe it. Its mean of scaled
    gradients is kept; growth_rate is added, and so is the rest at lr = 0: there sums and state go
    on fading.
    """
