"""Stochastic weight averaging."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from thalweg.average.running import RunningAverage
from thalweg.core.checks import check_number, check_whole


@dataclass(frozen=True)
class SWA:
    r"""The uniform mean of the weights over the last part of the run.

    From update :math:`t_0 = \max(1, \lceil start \cdot T \rceil)` on, every ``every``-th update
    adds a point: :math:`\bar w \leftarrow \bar w + (w - \bar w) / (n + 1)`. Until then the model
    is evaluated as it is. Batch-norm statistics belong to none of the averaged points and have to
    be recomputed for the mean (`recalibrate_batch_norm`). Izmailov et al., "Averaging Weights
    Leads to Wider Optima and Better Generalization", UAI 2018, arXiv:1803.05407, who keep the
    learning rate constant or cyclical over that part; a schedule that decays to zero leaves
    little to average.

    Args:
        start: where averaging starts, as a share of the run in [0, 1].
        every: updates between two points, at least 1.

    Raises:
        UsageError: an impossible value.
    """

    start: float = 0.75
    every: int = 1

    def __post_init__(self) -> None:
        check_number("swa: start", self.start, "[0, 1]")
        check_whole("swa: every", self.every, least=1)

    def collects(self, step: int, steps: int) -> bool:
        """Return whether the point after a step, counted from 0, is averaged."""
        first = max(1, math.ceil(self.start * steps - 1e-9))
        past = step + 1 - first
        return past >= 0 and past % self.every == 0

    def attach(self, model: nn.Module) -> RunningAverage:
        """Return a running average that has no point yet."""
        return _UniformAverage(self, model)


class _UniformAverage(RunningAverage):
    needs_recalibration: ClassVar[bool] = True
    averages_buffers: ClassVar[bool] = False

    def __init__(self, settings: SWA, model: nn.Module) -> None:
        super().__init__(model)
        self._settings = settings

    def _weight(self, step: int, steps: int) -> float | None:
        return 1 / (self.count + 1) if self._settings.collects(step, steps) else None
