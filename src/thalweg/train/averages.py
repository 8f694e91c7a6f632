"""Following several averages along one run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from thalweg.average import Average, RunningAverage
from thalweg.core.errors import UsageError
from thalweg.train.events import Callback
from thalweg.train.record import tuples
from thalweg.train.result import Point

if TYPE_CHECKING:
    from thalweg.train.run import Run


class FollowAverages(Callback):
    """Follows averages along a run, and evaluates each wherever the run is evaluated.

    The run is what it would be without them, so any number can be compared on the very same
    iterates, such as one average with several decays. They are in the run's checkpoints. Their
    cost is not counted as training time.

    Example::

        from thalweg import train
        from thalweg.average import EMA, LAWA

        averages = train.FollowAverages({"ema": EMA(0.99), "slow": EMA(0.999), "lawa": LAWA(5)})
        train.fit("digits", "sgd(lr=0.05, momentum=0.9)", callbacks=[averages])
        print({name: points[-1].metric for name, points in averages.curves.items()})

    Args:
        averages: settings by a name of your choice.

    Attributes:
        running: the running averages by name, from the start of the run on.
        curves: their evaluations, by name; the training loss is the run's.

    Raises:
        UsageError: what is no average, or one that would change the training.
    """

    key = "FollowAverages"

    def __init__(self, averages: Mapping[str, Average]) -> None:
        for name, settings in averages.items():
            if not isinstance(settings, Average):
                raise UsageError(
                    f'"{name}" must be the settings of an average, such as '
                    f"thalweg.average.EMA(0.99); found {type(settings).__name__}"
                )
        self._settings = dict(averages)
        self._run: Run | None = None
        self.running: dict[str, RunningAverage] = {}
        self.curves: dict[str, list[Point]] = {}

    def on_start(self, run: Run) -> None:
        """Attach the averages, unless they go on from a checkpoint."""
        if self._run is not run:
            self._attach(run)

    def on_step(self, run: Run, step: int, loss: float) -> None:
        """Take in the weights."""
        del loss
        for average in self.running.values():
            average.update(step - 1, run.settings.steps)

    def on_evaluate(self, run: Run, point: Point) -> None:
        """Evaluate every average, and tell those that go by it the validation loss."""
        if not math.isfinite(point.train_loss):
            return
        waiting = [average for average in self.running.values() if average.monitors]
        loss = run.validation_loss() if waiting else math.nan
        if math.isfinite(loss):
            for average in waiting:
                average.evaluated(loss)
        for name, average in self.running.items():
            metric = run.metric_of(average)
            self.curves[name].append(Point(point.step, point.seconds, point.train_loss, metric))

    def state_dict(self) -> dict[str, Any]:
        """Return the averages and their curves."""
        return {
            "averages": {name: average.state_dict() for name, average in self.running.items()},
            "curves": {name: tuples(points) for name, points in self.curves.items()},
        }

    def load_state_dict(self, run: Run, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            UsageError: it holds other averages.
        """
        if state["averages"].keys() != self._settings.keys():
            raise UsageError(
                f"the checkpoint follows the averages {sorted(state['averages'])}, found "
                f"{sorted(self._settings)}; follow the same, or start over in another folder"
            )
        self._attach(run)
        for name, average in self.running.items():
            average.load_state_dict(state["averages"][name])
            self.curves[name] = [Point(*point) for point in state["curves"][name]]

    def _attach(self, run: Run) -> None:
        self._run = run
        self.running = {name: one.attach(run.model) for name, one in self._settings.items()}
        self.curves = {name: [] for name in self._settings}
        for name, average in self.running.items():
            if average.writes_back:
                raise UsageError(
                    f'"{name}" ({type(average.settings).__name__}) changes the training, so it '
                    "cannot be followed beside it; make it part of the recipe"
                )
