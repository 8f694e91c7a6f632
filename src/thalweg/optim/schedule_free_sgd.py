"""Schedule-Free SGD."""

from dataclasses import dataclass

from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, RuleOptimizer, State
from thalweg.engine.rule import require
from thalweg.engine.schedule_free import ScheduleFree


@dataclass(frozen=True)
class ScheduleFreeSGDRule(ScheduleFree):
    """The formula of `ScheduleFreeSGD`."""

    lr: float = 1.0
    momentum: float = 0.9
    warmup_steps: int = 0
    r: float = 0.0
    weight_lr_power: float = 2.0

    def check(self) -> None:
        """Refuse a momentum of 0, where y no longer holds x, or of 1, where it never moves."""
        super().check()
        require(self, "momentum", 0 < self.momentum < 1, "in (0, 1)")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return z, which starts at the parameter."""
        return {"z": p.detach().clone()}

    def scalars(self, t: int) -> dict[str, float]:
        """Return the weight of x in y and the rate after warm-up."""
        return {"beta": self.momentum, "rate": self.rate(t)}

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the movement of y, and move z on."""
        return self.movement(g + p * k.weight_decay, p, s, k)


class ScheduleFreeSGD(
    RuleOptimizer,
    rule=ScheduleFreeSGDRule,
    slug="schedule-free-sgd",
    name="Schedule-Free SGD",
    reference="Defazio et al. 2024, arXiv 2405.15682",
    space={"lr": Log(1e-2, 3.0), "weight_decay": Log(1e-6, 1e-2)},
):
    r"""Schedule-Free SGD: an average that replaces the learning-rate schedule.

    Three sequences: z moves, x is a weighted mean of all z, gradients are taken at y between
    them, and y is what the parameters hold while training::

        y = (1 - momentum) z + momentum x
        z <- z - rate (g(y) + weight_decay y)
        x <- (1 - c) x + c z,   c = w_t / sum w,   w_t = t^r lr_max^weight_lr_power

    with ``rate = lr min(1, t / warmup_steps)`` and lr_max the largest rate so far; x is not
    stored. Towards momentum 1 it is primal averaging, towards 0 Polyak's average of plain SGD.

    **Evaluate and save at x**: call ``optimizer.eval()`` before and ``optimizer.train()`` after;
    a step in between is an error. Batch-norm statistics belong to y then and have to be
    recomputed at x.

    When to use: where SGD with momentum and a decaying schedule would be used, but the run's
    length is not known. Use no schedule beside it, and a learning rate some 10 times SGD's.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate.
        momentum: weight of x in y, in (0, 1).
        warmup_steps: steps over which the rate rises linearly.
        r: exponent of t in the weights of the mean.
        weight_lr_power: exponent of lr_max in the weights of the mean.
        weight_decay: coupled, taken at y.

    State: ``z``, one tensor like the parameter; in each group the numbers ``k``, ``lr_max``,
    ``weight_sum`` and ``average_weight`` (c).

    Reference: Defazio et al., "The Road Less Scheduled", NeurIPS 2024, arXiv 2405.15682;
    defaults of the authors' code. Its newer options ``inner_momentum`` and ``decay_at_z`` are
    AdamW's; see `ScheduleFreeAdamW`.
    """

    needs_recalibration = True
