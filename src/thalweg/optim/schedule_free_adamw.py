"""Schedule-Free AdamW."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State
from thalweg.engine.rule import require


@dataclass(frozen=True)
class ScheduleFreeAdamWRule(Rule):
    """The formula of `ScheduleFreeAdamW`."""

    lr: float = 2.5e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    warmup_steps: int = 0
    r: float = 0.0
    weight_lr_power: float = 2.0

    def check(self) -> None:
        """Refuse beta1 = 0, where y no longer holds x, and a negative warm-up."""
        super().check()
        require(self, "betas", self.betas[0] > 0, "(in (0, 1), in [0, 1))")
        require(self, "warmup_steps", self.warmup_steps >= 0, "at least 0")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return z, which starts at the parameter, and the mean square, zero."""
        return {"z": p.detach().clone(), "exp_avg_sq": torch.zeros_like(p)}

    def shared(self) -> dict[str, float]:
        """Return the number of steps, the largest learning rate and the sum of weights so far."""
        return {"k": 0, "lr_max": 0.0, "weight_sum": 0.0, "average_weight": 1.0}

    def advance(self, shared: MutableMapping[str, float], measured: Mapping[str, float]) -> None:
        """Count the step and set the weight ``c`` that the new z gets in the average."""
        del measured
        shared["k"] += 1
        shared["lr_max"] = max(shared["lr_max"], self.lr * self._warmup(shared["k"]))
        weight = shared["k"] ** self.r * shared["lr_max"] ** self.weight_lr_power
        shared["weight_sum"] += weight
        total = shared["weight_sum"]
        shared["average_weight"] = weight / total if total > 0 else 0.0

    def _warmup(self, k: float) -> float:
        return min(1.0, k / self.warmup_steps) if self.warmup_steps else 1.0

    def scalars(self, t: int) -> dict[str, float]:
        """Return the betas, eps, the second bias correction and the rate after warm-up."""
        return {
            "beta1": self.betas[0],
            "beta2": self.betas[1],
            "eps": self.eps,
            "bias_correction2": 1 - self.betas[1] ** t,
            "rate": self.lr * self._warmup(t),
        }

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return 1 and 0: `update` returns the whole movement of y."""
        return 1.0, 0.0

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the movement of y, and move z on."""
        v = s.exp_avg_sq.mul_(k.beta2).add_(g * g, alpha=1 - k.beta2)
        d = g / ((v / k.bias_correction2).sqrt() + k.eps) + p * k.weight_decay
        towards_z = (p - s.z) * k.average_weight
        s.z.sub_(d * k.rate)
        return towards_z + d * (k.rate * (1 - k.beta1 * (1 - k.average_weight)))

    def evaluation_weights(self, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return x = y + (z - y) (1 - 1 / beta1)."""
        return p + (s.z - p) * (1 - 1 / k.beta1)

    def training_weights(self, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return y = x + (z - x) (1 - beta1)."""
        return p + (s.z - p) * (1 - k.beta1)


class ScheduleFreeAdamW(
    RuleOptimizer,
    rule=ScheduleFreeAdamWRule,
    slug="schedule-free-adamw",
    name="Schedule-Free AdamW",
    reference="Defazio et al. 2024, arXiv 2405.15682",
    space={"lr": Log(1e-3, 3e-1), "weight_decay": Log(1e-3, 1.0)},
):
    r"""Schedule-Free AdamW: an average that replaces the learning-rate schedule.

    Three sequences: z moves, x is a weighted mean of all z, gradients are taken at y between
    them, and y is what the parameters hold while training::

        y = (1 - beta1) z + beta1 x
        v <- beta2 v + (1 - beta2) g(y)^2
        z <- z - rate (g / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay y)
        x <- (1 - c) x + c z,   c = w_t / sum w,   w_t = t^r lr_max^weight_lr_power

    with ``rate = lr min(1, t / warmup_steps)`` and lr_max the largest rate so far; x is not
    stored. Use no schedule beside it.

    **Evaluate and save at x**: call ``optimizer.eval()`` before and ``optimizer.train()`` after;
    a step in between is an error. Batch-norm statistics belong to y then and have to be
    recomputed at x.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate.
        betas: weight of x in y, in (0, 1), and decay of the mean square, in [0, 1).
        eps: keeps the quotient finite.
        warmup_steps: steps over which the rate rises linearly.
        r: exponent of t in the weights of the mean.
        weight_lr_power: exponent of lr_max in the weights of the mean.
        weight_decay: decoupled, taken at y.

    State: ``z`` and ``exp_avg_sq`` (v), like the parameter; in each group the numbers ``k``,
    ``lr_max``, ``weight_sum`` and ``average_weight`` (c).

    Reference: Defazio et al., "The Road Less Scheduled", NeurIPS 2024, arXiv 2405.15682. The
    paper (and its AlgoPerf entry) multiplies lr by sqrt(1 - beta2^t), weights included; this is
    the authors' code since version 1.3, which divides v instead.
    """

    needs_recalibration = True
