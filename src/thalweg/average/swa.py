"""Stochastic weight averaging."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from thalweg.average.running import UniformAverage, WeightedAverage
from thalweg.average.settings import Average
from thalweg.core.checks import check_number, check_whole
from thalweg.core.cycles import Cycles, first_of, is_due
from thalweg.core.errors import UsageError


@dataclass(frozen=True)
class SWA(Average):
    r"""The uniform mean of the weights over the last part of the run.

    From update :math:`t_0 = \max(1, \lceil start \cdot T \rceil)` on, every ``every``-th update
    adds a point: :math:`\bar w \leftarrow \bar w + (w - \bar w) / (n + 1)`. Until then the model
    is evaluated as it is. Batch-norm statistics belong to none of the averaged points and have to
    be recomputed for the mean (`recalibrate_batch_norm`). Izmailov et al., "Averaging Weights
    Leads to Wider Optima and Better Generalization", UAI 2018, arXiv:1803.05407, who keep the
    learning rate constant or cyclical over that part (`SWAConstant`, `SWACyclical`); a schedule
    that decays to zero leaves little to average.

    Args:
        start: where averaging starts, as a share of the run in [0, 1].
        every: updates between two points, at least 1.
        cycles: in place of ``every``: the rest of the run is cut into so many cycles, and a point
            is added at the start and at the end of each, where `SWACyclical` is lowest.
        device: see `Average`.
        precision: see `Average`.

    Raises:
        UsageError: an impossible value.
    """

    start: float = 0.75
    every: int = 1
    cycles: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("swa: start", self.start, "[0, 1]")
        check_whole("swa: every", self.every, least=1)
        if self.cycles is not None:
            check_whole("swa: cycles", self.cycles, least=1)
            if self.every != 1:
                raise UsageError(
                    f"swa: points are added by cycles or by every, not by both; found cycles = "
                    f"{self.cycles} and every = {self.every}"
                )

    def collects(self, step: int, steps: int) -> bool:
        """Return whether the point after a step, counted from 0, is averaged."""
        if self.cycles is None:
            return is_due(step, steps, self.start, self.every)
        first = step + 1 == first_of(self.start, steps)
        return first or Cycles(self.start, self.cycles).ends(step, steps)

    def attach(self, model: nn.Module) -> WeightedAverage:
        """Return a running average that has no point yet."""
        return _StochasticAverage(self, model)


class _StochasticAverage(UniformAverage):
    needs_recalibration: ClassVar[bool] = True
    averages_buffers: ClassVar[bool] = False
