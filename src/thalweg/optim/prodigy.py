"""Prodigy."""

import math
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State
from thalweg.engine.rule import require


@dataclass(frozen=True)
class ProdigyRule(Rule):
    """The formula of `Prodigy`."""

    lr: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    beta3: float | None = None
    eps: float = 1e-8
    decouple: bool = True
    use_bias_correction: bool = False
    safeguard_warmup: bool = False
    d0: float = 1e-6
    d_coef: float = 1.0
    growth_rate: float = math.inf

    def check(self) -> None:
        """Refuse a first estimate that is not positive and a growth below 1."""
        super().check()
        require(self, "beta3", self.beta3 is None or 0 <= self.beta3 < 1, "None or in [0, 1)")
        require(self, "d0", 0 < self.d0 < math.inf, "positive and finite")
        require(self, "d_coef", self.d_coef > 0, "positive")
        require(self, "growth_rate", self.growth_rate >= 1, "at least 1")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return both moments and the distance sum, zero, and a copy of the start."""
        names = ("exp_avg", "exp_avg_sq", "s")
        return {**{name: torch.zeros_like(p) for name in names}, "p0": p.detach().clone()}

    def shared(self) -> dict[str, float]:
        """Return the estimate d of the distance, its largest value and its numerator; the step.

        ``d`` and ``k`` are this step's until `advance` moves them on to the next one's and
        leaves this step's in ``d_last`` and ``k_last``.
        """
        return {
            "d": self.d0,
            "d_last": self.d0,
            "d_max": self.d0,
            "d_numerator": 0.0,
            "k": 1,
            "k_last": 1,
        }

    def scalars(self, t: int) -> dict[str, float]:
        """Return the betas, what state keeps of itself, which is all at lr = 0, eps and d0."""
        del t
        beta1, beta2 = self.betas
        moves = 1.0 if self.lr > 0 else 0.0
        eps = self.eps if moves else 1.0  # 0 / 0 would be NaN, times 0 too
        return {
            "beta1": beta1,
            "beta2": beta2,
            "keep1": beta1 if moves else 1.0,
            "keep2": beta2 if moves else 1.0,
            "keep3": self._beta3() if moves else 1.0,
            "eps": eps,
            "moves": moves,
            "d0": self.d0,
        }

    def _beta3(self) -> float:
        return self.betas[1] ** 0.5 if self.beta3 is None else self.beta3

    def measure(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> dict[str, Tensor]:
        """Return <g, p0 - p> and |s_next|_1, scaled as the authors' code has them; 0 at lr = 0."""
        g = self._decayed(g, p, k)
        relative = k.d / k.d0
        rate = self._rate(k, k.k)
        moved = s.s * k.keep3 + g * self._weight(relative * k.d, rate, k)
        return {
            "numerator": (g * (s.p0 - p) * (relative * k.d * rate)).sum(),
            "denominator": (moved.abs() * k.moves).sum(),
        }

    def advance(self, shared: MutableMapping[str, float], measured: Mapping[str, float]) -> None:
        """Estimate the distance anew; it never shrinks.

        Stand still without any gradient yet, and where lr is 0 in all groups.
        """
        if measured["denominator"] == 0:
            shared["d_last"] = 0.0
            return
        shared["d_last"], shared["k_last"] = shared["d"], shared["k"]
        shared["k"] += 1
        shared["d_numerator"] = self._beta3() * shared["d_numerator"] + measured["numerator"]
        estimate = self.d_coef * shared["d_numerator"] / measured["denominator"]
        # Written with the estimate first, so that a NaN is carried on rather than dropped.
        if shared["d"] == self.d0:
            shared["d"] = max(estimate, shared["d"])
        shared["d_max"] = max(estimate, shared["d_max"])
        shared["d"] = min(shared["d_max"], shared["d"] * self.growth_rate)

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return d lr, with the d before this step, and the decay that goes with it."""
        step = k.d_last * self._rate(k, k.k_last)
        return step, step * k.weight_decay if self.decouple else 0.0

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return m / (sqrt(v) + d eps), with the new d."""
        g = self._decayed(g, p, k)
        d = k.d_last
        s.s.mul_(k.keep3).add_(g * self._weight(d / k.d0 * d, self._rate(k, k.k_last), k))
        m = s.exp_avg.mul_(k.keep1).add_(g * (d * (1 - k.keep1)))
        v = s.exp_avg_sq.mul_(k.keep2).add_(g * g * (d * d * (1 - k.keep2)))
        return m / (v.sqrt() + k.d * k.eps)

    def _decayed(self, g: Tensor, p: Tensor, k: Numbers) -> Tensor:
        return g if self.decouple else g + p * k.weight_decay

    def _rate(self, k: Numbers, step: float) -> float:
        """Return lr, times Adam's bias corrections of that step if asked for."""
        if not self.use_bias_correction:
            return k.lr
        return k.lr * (1 - k.beta2**step) ** 0.5 / (1 - k.beta1**step)

    def _weight(self, scaled: float, rate: float, k: Numbers) -> float:
        return scaled * (k.moves if self.safeguard_warmup else rate)


class Prodigy(
    RuleOptimizer,
    rule=ProdigyRule,
    slug="prodigy",
    reference="Mishchenko & Defazio 2024, arXiv 2306.06101",
    space={"lr": Log(0.3, 3.0), "weight_decay": Log(1e-3, 1.0)},
):
    r"""Prodigy: Adam that estimates its learning rate from the distance to the solution.

    With the estimate d (one for all parameters), ``rate = lr`` (times Adam's bias corrections if
    asked for), beta3 = sqrt(beta2) unless given, and sums over all tensors::

        N <- beta3 N + sum (d / d0) d rate <g, p0 - p>
        s <- beta3 s + (d / d0) d rate g
        m <- beta1 m + (1 - beta1) d g
        v <- beta2 v + (1 - beta2) d^2 g^2
        e  = d_coef N / sum |s|_1
        d' = max(d0, e) while d = d0, then min(max(d_max, e), growth_rate d)
        p <- (1 - d rate weight_decay) p - d rate m / (sqrt(v) + d' eps)

    where d_max is the largest e so far. Leave lr at 1 and give it a schedule. Rescaling the loss
    does not change the path.

    A tensor whose lr is 0 rests: it and its state stay as they are, and the sums do without it. A
    step with lr = 0 in all groups is as if it had not been.

    Args:
        params: see `RuleOptimizer`.
        lr: multiplies the estimate; equal in all groups, or 0.
        betas: decay of the mean and of the mean square, each in [0, 1).
        beta3: decay of the sums, None for sqrt(beta2).
        eps: keeps the quotient finite, relative to d.
        decouple: decoupled weight decay, else coupled (L2).
        use_bias_correction: Adam's two corrections.
        safeguard_warmup: leave lr out of s, for runs with a warm-up.
        d0: first estimate, below the true distance.
        d_coef: multiplies every estimate.
        growth_rate: bound on the growth of d in one step, but for its first leap from d0.
        weight_decay: see ``decouple``.

    State: ``exp_avg`` (m), ``exp_avg_sq`` (v), ``s``, ``p0``, like the parameter; in each group
    the numbers ``d``, ``d_max``, ``d_numerator`` and ``k``, and the last step's ``d_last`` and
    ``k_last``.

    Reference: Mishchenko & Defazio, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner",
    ICML 2024, arXiv 2306.06101; the recursions are those of the authors' code, whose scaling by
    d / d0 and missing factors 1 - beta3 leave the paper's quotient unchanged. In the authors' code
    a group whose lr is 0 beside others still decays and moves by what its mean holds; here it
    rests. Its ``slice_p``, sums over every p-th entry of a tensor to save memory, is left out: what
    they need is stored apart from the parameter's entries, and a formula for one entry cannot
    read it.
    """
