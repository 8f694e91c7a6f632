"""Schedule-Free AdamW."""

from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, RuleOptimizer, State
from thalweg.engine.rule import require
from thalweg.engine.schedule_free import ScheduleFree


@dataclass(frozen=True)
class ScheduleFreeAdamWRule(ScheduleFree):
    """The formula of `ScheduleFreeAdamW`."""

    lr: float = 2.5e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    warmup_steps: int = 0
    r: float = 0.0
    weight_lr_power: float = 2.0
    correct_lr: bool = False

    def check(self) -> None:
        """Refuse beta1 = 0, where y no longer holds x."""
        super().check()
        require(self, "betas", self.betas[0] > 0, "(in (0, 1), in [0, 1))")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return z, which starts at the parameter, and the mean square, zero."""
        return {"z": p.detach().clone(), "exp_avg_sq": torch.zeros_like(p)}

    def rate(self, t: float) -> float:
        """Return the learning rate after warm-up, with the bias correction if it is to have it."""
        rate = super().rate(t)
        return rate * (1 - self.betas[1] ** t) ** 0.5 if self.correct_lr else rate

    def scalars(self, t: int) -> dict[str, float]:
        """Return the betas, eps, what v is divided by and the rate."""
        return {
            "beta": self.betas[0],
            "beta2": self.betas[1],
            "eps": self.eps,
            "bias_correction2": 1.0 if self.correct_lr else 1 - self.betas[1] ** t,
            "rate": self.rate(t),
        }

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the movement of y, and move z on."""
        v = s.exp_avg_sq.mul_(k.beta2).add_(g * g, alpha=1 - k.beta2)
        d = g / ((v / k.bias_correction2).sqrt() + k.eps) + p * k.weight_decay
        return self.movement(d, p, s, k)


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
    stored. With ``correct_lr`` v is divided by nothing and the rate has the factor
    ``sqrt(1 - beta2^t)`` instead. Use no schedule beside it.

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
        correct_lr: the paper's form: the bias correction of v is a factor of the rate, so that
            early z weigh less and eps weighs more.
        weight_decay: decoupled, taken at y.

    State: ``z`` and ``exp_avg_sq`` (v), like the parameter; in each group the numbers ``k``,
    ``lr_max``, ``weight_sum`` and ``average_weight`` (c).

    Reference: Defazio et al., "The Road Less Scheduled", NeurIPS 2024, arXiv 2405.15682. The
    paper (and its AlgoPerf entry) multiplies lr by sqrt(1 - beta2^t), weights included; the
    default is the authors' code since version 1.3, which divides v instead. Its newer options are
    left out, since the paper's rule and its theory do without them: ``inner_momentum``, a mean of
    gradients above the root, and ``decay_at_z``, weight decay taken at z.
    """

    needs_recalibration = True
