"""Adam with D-Adaptation."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, RuleOptimizer, State
from thalweg.engine.d_adaptation import AveragedDAdaptation


@dataclass(frozen=True)
class DAdaptAdamRule(AveragedDAdaptation):
    """The formula of `DAdaptAdam`."""

    lr: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    decouple: bool = False
    use_bias_correction: bool = False
    d0: float = 1e-6
    growth_rate: float = math.inf

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return both moments and the sum of weighted gradients, zero."""
        return {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq", "s")}

    def scalars(self, t: int) -> dict[str, float]:
        """Return the betas, what state keeps of itself, which is all at lr = 0, and eps."""
        del t
        beta1, beta2 = self.betas
        moves = 1.0 if self.lr > 0 else 0.0
        eps = self.eps if moves else 1.0  # 0 / 0 would be NaN, times 0 too
        return {
            "beta1": beta1,
            "beta2": beta2,
            "keep1": beta1 if moves else 1.0,
            "keep2": beta2 if moves else 1.0,
            "q": beta2**0.5 if moves else 1.0,
            "eps": eps,
            "moves": moves,
        }

    def measure(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> dict[str, Tensor]:
        """Return the product of the step with s, in Adam's metric, and the next |s|_1; or 0."""
        g = self._decayed(g, p, k)
        rate = k.d * self._rate(k, k.k)
        return {
            "product": (g * s.s / (s.exp_avg_sq.sqrt() + k.eps) * rate).sum(),
            "denominator": ((s.s * k.q + g * (rate * (1 - k.q))).abs() * k.moves).sum(),
        }

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return 1 (0 at lr = 0) and the decay that goes with the last d: d is part of m."""
        rate = k.d_last * self._rate(k, k.k_last)
        return k.moves, rate * k.weight_decay if self.decouple else 0.0

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return m over the root of v."""
        g = self._decayed(g, p, k)
        rate = k.d_last * self._rate(k, k.k_last)
        s.s.mul_(k.q).add_(g * (rate * (1 - k.q)))
        m = s.exp_avg.mul_(k.keep1).add_(g * (rate * (1 - k.keep1)))
        v = s.exp_avg_sq.mul_(k.keep2).add_(g * g, alpha=1 - k.keep2)
        return m / (v.sqrt() + k.eps)

    def _decayed(self, g: Tensor, p: Tensor, k: Numbers) -> Tensor:
        return g if self.decouple else g + p * k.weight_decay

    def _rate(self, k: Numbers, step: float) -> float:
        """Return lr, times Adam's bias corrections of that step if asked for."""
        if not self.use_bias_correction:
            return k.lr
        return k.lr * (1 - k.beta2**step) ** 0.5 / (1 - k.beta1**step)


class DAdaptAdam(
    RuleOptimizer,
    rule=DAdaptAdamRule,
    slug="dadapt-adam",
    name="D-Adapt Adam",
    reference="Defazio & Mishchenko 2023, arXiv 2301.07733",
    space={"lr": Log(0.1, 10.0), "weight_decay": Log(1e-3, 1.0)},
):
    r"""D-Adapt Adam: Adam that estimates its learning rate from the distance to the solution.

    With one estimate d for all parameters, ``rate = d lr`` (times Adam's bias corrections if asked
    for), q = sqrt(beta2), and sums over all tensors::

        N <- q N + (1 - q) rate <g, s / (sqrt(v) + eps)>
        s <- q s + (1 - q) rate g
        m <- beta1 m + (1 - beta1) rate g
        v <- beta2 v + (1 - beta2) g^2
        d' = max(d, min(N / ((1 - q) sum |s|_1), growth_rate d))
        p <- p - m / (sqrt(v) + eps)

    d never shrinks. Rescaling the loss does not change the path (up to eps).

    A tensor whose lr is 0 rests: it and its state stay as they are, and the sums do without it. A
    step with lr = 0 in all groups is as if it had not been.

    When to use: Adam without a learning rate to tune; `Prodigy`, by the same authors, finds the
    rate sooner. Leave lr at 1 and give it a schedule.

    Args:
        params: see `RuleOptimizer`.
        lr: multiplies the estimate; equal in all groups, or 0.
        betas: decay of the mean and of the mean square, each in [0, 1).
        eps: keeps the quotient finite.
        decouple: decoupled weight decay, else coupled (L2).
        use_bias_correction: Adam's two corrections.
        d0: first estimate, below the true distance.
        growth_rate: bound on the growth of d in one step; 1.02 makes a warm-up.
        weight_decay: see ``decouple``.

    State: ``exp_avg`` (m), ``exp_avg_sq`` (v) and ``s``, three tensors like the parameter; in each
    group the numbers ``d``, ``numerator`` (N) and ``k``, and the last step's ``d_last`` and
    ``k_last``.

    Reference: Defazio & Mishchenko, "Learning-Rate-Free Learning by D-Adaptation", ICML 2023,
    arXiv 2301.07733; defaults and order of the authors' code. There a group whose lr is 0
    beside others still decays and moves by what its mean holds; here it rests.
    """
