"""Exponential moving average of the weights."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from thalweg.average.running import WeightedAverage
from thalweg.average.settings import Average
from thalweg.core.checks import check_flag, check_number, check_whole
from thalweg.core.errors import UsageError


@dataclass(frozen=True)
class EMA(Average):
    r"""An exponential moving average of the weights along the run.

    After update :math:`t` (from 1), :math:`v \leftarrow \beta_t v + (1 - \beta_t) w` with
    :math:`\beta_t = \min(\beta, 1 - (1 + (t - 1)/\gamma)^{-\kappa})`: the decay warms up from 0,
    so that the first point is the weights after one update and the initial weights have no share,
    and a run that is short beside :math:`1 / (1 - \beta)` is averaged over its later part.
    Without warm-up :math:`\beta_t = \beta` and :math:`v_0 = w_0`, whose share is
    :math:`\beta^t`; with ``bias_correction`` it is :math:`v_t / (1 - \beta^t)` from
    :math:`v_0 = 0`, in which the initial weights have no share. Float buffers (batch-norm
    statistics) are averaged as weights are, integer buffers copied. Common in this form since
    Tarvainen & Valpola, "Mean teachers are better role models", NeurIPS 2017, arXiv:1703.01780.

    It keeps the model's memory once, and reads and writes it at every point. In bfloat16, which
    halves the memory, a point is rounded stochastically; a kernel does that in one pass, and torch
    in many where there is no C compiler or the model is on a GPU. Where that is too much of a
    step, take every tenth (``every=10``) with ten times as large a ``1 - decay``.

    For several decays at once see `thalweg.train.FollowAverages`, and `PowerEMA` for any decay
    after the run.

    Args:
        decay: :math:`\beta` in [0, 1); the time constant is ``every / (1 - decay)`` steps.
        warmup: whether the decay warms up.
        power: :math:`\kappa > 0`; with 1 (and ``gamma`` 1) the average is the uniform mean for as
            long as the decay has not reached :math:`\beta`.
        gamma: :math:`\gamma > 0`, the steps on which the warm-up is measured.
        every: updates between two points of the average, at least 1. The warm-up counts updates.
        bias_correction: whether the average starts at zero and is corrected for that; it takes the
            place of the warm-up, which has to be off.
        device: see `Average`.
        precision: see `Average`.

    Raises:
        UsageError: an impossible value.
    """

    decay: float = 0.999
    warmup: bool = True
    power: float = 2 / 3
    gamma: float = 1.0
    every: int = 1
    bias_correction: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("ema: decay", self.decay, "[0, 1)")
        check_flag("ema: warmup", self.warmup)
        check_number("ema: power", self.power, "(0, inf)")
        check_number("ema: gamma", self.gamma, "(0, inf)")
        check_whole("ema: every", self.every, least=1)
        check_flag("ema: bias_correction", self.bias_correction)
        if self.bias_correction and self.warmup:
            raise UsageError(
                "ema: with the warm-up the initial weights have no share already; "
                "bias_correction goes with warmup=False, found warmup=True"
            )

    def decay_at(self, step: int) -> float:
        """Return the decay for the point after a step, counted from 0."""
        if not self.warmup:
            return self.decay
        return min(self.decay, 1 - (1 + step / self.gamma) ** -self.power)

    def weight_at(self, step: int, count: int) -> float | None:
        """Return the weight of the point after a step, of which count came before; or None."""
        if (step + 1) % self.every:
            return None
        if self.warmup and count == 0:
            return 1.0
        weight = 1 - self.decay_at(step)
        # v_t / (1 - beta^t) obeys the same recursion with this weight, which is 1 at first.
        return weight / (1 - self.decay ** (count + 1)) if self.bias_correction else weight

    def attach(self, model: nn.Module) -> WeightedAverage:
        """Return a running average that starts at the model's weights."""
        return ExponentialAverage(self, model)


class ExponentialAverage(WeightedAverage):
    """The running average of `EMA`."""

    needs_recalibration: ClassVar[bool] = False
    averages_buffers: ClassVar[bool] = True

    def _weight(self, step: int, steps: int) -> float | None:
        del steps
        return self.settings.weight_at(step, self.count)
