"""Simple moving average of the weights, and weight averaging for distillation."""

from dataclasses import dataclass

from torch import nn

from thalweg.average.running import UniformAverage, WeightedAverage
from thalweg.average.settings import Average
from thalweg.core.checks import check_number, check_whole
from thalweg.core.cycles import is_due


@dataclass(frozen=True)
class SMA(Average):
    r"""The mean of the weights and batch-norm statistics after every update from an early one on.

    From update :math:`t_0` on, :math:`\bar w_t = \frac{t - t_0}{t - t_0 + 1} \bar w_{t-1} +
    \frac{1}{t - t_0 + 1} w_t`; before it the model stands for its average. Models are chosen by
    the average's validation metric. When to use: fine-tuning for data of another domain. Arpit et
    al., "Ensemble of Averages", NeurIPS 2022, arXiv:2110.10832; its ensemble is that of several
    runs' averages (`Ensemble` of outputs). The authors' code raises its counter too early and so
    averages from :math:`t_0 - 1` on; this is the paper's.

    Args:
        start: :math:`t_0`, an update, at least 1.
        device: see `Average`.
        precision: see `Average`.

    Raises:
        UsageError: an impossible value.
    """

    start: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("sma: start", self.start, least=1)

    def collects(self, step: int, steps: int) -> bool:
        """Return whether the point after a step, counted from 0, is averaged."""
        del steps
        return step + 1 >= self.start

    def attach(self, model: nn.Module) -> WeightedAverage:
        """Return a running average that has no point yet."""
        return UniformAverage(self, model)


@dataclass(frozen=True)
class WAKD(Average):
    r"""The mean of a student's weights over all but the first tenth of its distillation.

    No validation data choose the window. The other half of the method is the student's loss,
    `thalweg.workload.Distillation` (no labels, temperature 5), with a teacher that was trained
    with `SWAD` and batch norm frozen. Berezovskiy & Morozov, "Weight Averaging Improves Knowledge
    Distillation under Domain Shift", ICCV workshops 2023, arXiv:2309.11446, who average iterations
    5,000 to 50,000. Float buffers are averaged as weights are.

    Args:
        start: where averaging starts, as a share of the run in [0, 1].
        device: see `Average`.
        precision: see `Average`.

    Raises:
        UsageError: an impossible value.
    """

    start: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("wakd: start", self.start, "[0, 1]")

    def collects(self, step: int, steps: int) -> bool:
        """Return whether the point after a step, counted from 0, is averaged."""
        return is_due(step, steps, self.start)

    def attach(self, model: nn.Module) -> WeightedAverage:
        """Return a running average that has no point yet."""
        return UniformAverage(self, model)
