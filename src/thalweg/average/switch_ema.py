"""Switch EMA: training goes on from its own average, again and again."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from thalweg.average.ema import EMA, ExponentialAverage
from thalweg.average.running import RunningAverage
from thalweg.average.settings import interval
from thalweg.core.checks import check_number, check_whole


@dataclass(frozen=True)
class SwitchEMA(EMA):
    r"""An exponential moving average that is written back into the model now and then.

    The average is that of `EMA`. After every ``interval``-th update, the model's weights become
    the average's, and both go on from there; the average and the optimiser's state are not
    touched. With decay 0 it is plain training; switching after every update shrinks each step of
    gradient descent by :math:`1 - \beta`. Li et al., "Switch EMA: A Free Lunch for Better Flatness
    and Sharpness", 2024, arXiv:2402.09240, who switch once an epoch; here a number of updates
    does. The authors' code switches when the interval is *not* reached; this is the paper's rule.
    Float buffers (batch-norm statistics) are averaged and written back too.

    Args:
        decay: see `EMA`.
        warmup: see `EMA`.
        power: see `EMA`.
        gamma: see `EMA`.
        every: updates between two points of the average, at least 1.
        bias_correction: see `EMA`.
        interval: updates between two switches, at least 1; an epoch's in the paper. A hundredth of
            the run if None.
        end: where the switches end, as a share of the run in [0, 1].
        device: see `Average`.
        precision: see `Average`.

    Raises:
        UsageError: an impossible value.
    """

    interval: int | None = None
    end: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.interval is not None:
            check_whole("switch-ema: interval", self.interval, least=1)
        check_number("switch-ema: end", self.end, "[0, 1]")

    def switches(self, step: int, steps: int) -> bool:
        """Return whether the model becomes its average after a step, counted from 0."""
        done = step + 1
        return done % interval(self.interval, steps) == 0 and done <= self.end * steps

    def attach(self, model: nn.Module) -> RunningAverage:
        """Return a running average that starts at the model's weights and changes them."""
        return _SwitchAverage(self, model)


class _SwitchAverage(ExponentialAverage):
    writes_back: ClassVar[bool] = True

    def _update(self, step: int, steps: int) -> None:
        super()._update(step, steps)
        if self.count and self.settings.switches(step, steps):
            self._write(self._points["average"])
