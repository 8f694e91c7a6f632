"""Exponential moving average of the weights."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from thalweg.average.running import RunningAverage
from thalweg.core.checks import check_flag, check_number, check_whole


@dataclass(frozen=True)
class EMA:
    r"""An exponential moving average of the weights along the run.

    After update :math:`t` (from 1), :math:`v \leftarrow \beta_t v + (1 - \beta_t) w` with
    :math:`\beta_t = \min(\beta, 1 - (1 + (t - 1)/\gamma)^{-\kappa})`: the decay warms up from 0,
    so that the first point is the weights after one update and the initial weights have no share,
    and a run that is short beside :math:`1 / (1 - \beta)` is averaged over its later part.
    Without warm-up :math:`\beta_t = \beta` and :math:`v_0 = w_0`, whose share is
    :math:`\beta^t`. Float buffers (batch-norm statistics) are averaged as weights are, integer
    buffers copied. Common in this form since Tarvainen & Valpola, "Mean teachers are better role
    models", NeurIPS 2017, arXiv:1703.01780.

    Args:
        decay: :math:`\beta` in [0, 1); the time constant is ``every / (1 - decay)`` steps.
        warmup: whether the decay warms up.
        power: :math:`\kappa > 0`; with 1 (and ``gamma`` 1) the average is the uniform mean for as
            long as the decay has not reached :math:`\beta`.
        gamma: :math:`\gamma > 0`, the steps on which the warm-up is measured.
        every: updates between two points of the average, at least 1. The warm-up counts updates.

    Raises:
        UsageError: an impossible value.
    """

    decay: float = 0.999
    warmup: bool = True
    power: float = 2 / 3
    gamma: float = 1.0
    every: int = 1

    def __post_init__(self) -> None:
        check_number("ema: decay", self.decay, "[0, 1)")
        check_flag("ema: warmup", self.warmup)
        check_number("ema: power", self.power, "(0, inf)")
        check_number("ema: gamma", self.gamma, "(0, inf)")
        check_whole("ema: every", self.every, least=1)

    def decay_at(self, step: int) -> float:
        """Return the decay for the point after a step, counted from 0."""
        if not self.warmup:
            return self.decay
        return min(self.decay, 1 - (1 + step / self.gamma) ** -self.power)

    def attach(self, model: nn.Module) -> RunningAverage:
        """Return a running average that starts at the model's weights."""
        return _ExponentialAverage(self, model)


class _ExponentialAverage(RunningAverage):
    needs_recalibration: ClassVar[bool] = False
    averages_buffers: ClassVar[bool] = True

    def __init__(self, settings: EMA, model: nn.Module) -> None:
        super().__init__(model)
        self._settings = settings

    def _weight(self, step: int, steps: int) -> float | None:
        del steps
        if (step + 1) % self._settings.every:
            return None
        if self._settings.warmup and self.count == 0:
            return 1.0
        return 1 - self._settings.decay_at(step)
