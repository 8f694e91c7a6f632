"""Events of a training run, for progress displays, loggers and the like."""

from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.train.result import Point, Result

if TYPE_CHECKING:
    from thalweg.train.run import Run


class Callback:
    """Base of what listens to a run; override the events you need.

    A callback's time is not counted as training time. It may draw from global random generators
    without changing the run, except in `on_step`, which is called inside the run's own random
    stream for the sake of speed: draw from a generator of your own there. An exception from a
    callback ends the run.
    """

    def on_start(self, run: "Run") -> None:
        """Listen to the start, before the first step (or the first after a checkpoint)."""

    def on_step(self, run: "Run", step: int, loss: float) -> None:
        """Listen to a finished step, counted from 1, and its training loss."""

    def on_evaluate(self, run: "Run", point: Point) -> None:
        """Listen to an evaluation."""

    def on_checkpoint(self, run: "Run", path: Path) -> None:
        """Listen to a checkpoint that was written."""

    def on_end(self, run: "Run", result: Result) -> None:
        """Listen to the end, whatever the status."""
