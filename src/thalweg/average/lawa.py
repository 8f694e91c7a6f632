"""Latest weight averaging, and early weight averaging."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from thalweg.average.kept import Point, mean_of
from thalweg.average.running import RunningAverage
from thalweg.average.settings import Average, interval
from thalweg.core.checks import check_number, check_whole
from thalweg.core.cycles import is_due


@dataclass(frozen=True)
class LAWA(Average):
    r"""The mean of the k latest checkpoints.

    After every ``every``-th update the weights are copied into a queue that holds the ``latest``
    last copies; the average is their uniform mean, and does not feed back into the training. It
    works with constant and with decaying learning rates, and runs ahead of the last iterate early
    on. It keeps ``latest`` times the model's memory (``device="cpu"``, ``precision="bfloat16"``)
    and costs one copy a checkpoint. Kaddour, "Stop Wasting My Time! Saving Days of ImageNet and
    BERT Training with Latest Weight Averaging", 2022, arXiv:2209.14981, with a checkpoint an epoch.

    Early weight averaging is this with ``latest`` = 5, checkpoints hundreds of steps apart and a
    peak learning rate several times as high as usual (Sanyal et al., "Early Weight Averaging meets
    High Learning Rates for LLM Pre-training", COLM 2024, arXiv:2306.03241): the gain grows with
    both and vanishes as the rate decays. The windows of that paper slide; its script's do not. The
    scripts of Kaddour average one checkpoint more than they say; this averages ``latest``.

    Float buffers (batch-norm statistics) are averaged as weights are, integer ones the latest's.

    Args:
        latest: k, at least 1.
        every: updates between two checkpoints, at least 1; a hundredth of the run if None.
        start: the share of the run before which no checkpoint is taken, in [0, 1].
        device: see `Average`.
        precision: see `Average`.

    Raises:
        UsageError: an impossible value.
    """

    latest: int = 5
    every: int | None = None
    start: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("lawa: latest", self.latest, least=1)
        if self.every is not None:
            check_whole("lawa: every", self.every, least=1)
        check_number("lawa: start", self.start, "[0, 1]")

    def attach(self, model: nn.Module) -> RunningAverage:
        """Return a running average that has no checkpoint yet."""
        return _LatestAverage(self, model)


class _LatestAverage(RunningAverage):
    needs_recalibration: ClassVar[bool] = False
    averages_buffers: ClassVar[bool] = True
    rows = ("checkpoint",)

    def _update(self, step: int, steps: int) -> None:
        due = (step + 1) % interval(self.settings.every, steps) == 0
        if not (due and is_due(step, steps, self.settings.start)):
            return
        self._points[f"checkpoint-{self.count}"] = self._snapshot()
        self._points.pop(f"checkpoint-{self.count - self.settings.latest}", None)
        self.count += 1

    def _current(self) -> Point:
        return mean_of([self._points[name] for name in self._row("checkpoint")])
