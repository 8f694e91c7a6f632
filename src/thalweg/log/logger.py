"""What all loggers share: which numbers of a run are logged, when, and what a failure does."""

from __future__ import annotations

import importlib
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from thalweg.core.errors import UsageError
from thalweg.core.files import check_folder
from thalweg.train.events import Callback
from thalweg.train.result import Point, Result
from thalweg.train.run import Run

LOSSES = 200
"""At most about this many losses of single steps are logged in a run."""


class Logger(Callback, ABC):
    """Base of the loggers: a callback that passes a run's numbers on to a tool.

    A logger logs, by step:

    * ``train/loss``: the training loss of that step, for about 200 steps of the run;
    * ``train/mean_loss``: its mean since the last evaluation, at every evaluation;
    * ``validation/<metric>``: the workload's metric, at every evaluation;
    * ``train/learning_rate``: of the first group, at every evaluation;
    * ``train/seconds``: training time so far, at every evaluation;

    and once: the hyper-parameters and settings at the start; the status, the final and the best
    metric, times and memory at the end. One object serves any number of runs, one after the other.

    A logger never ends a run: whatever its tool raises is a `RuntimeWarning`, and the rest of that
    run is not logged there. A run that continues from a checkpoint is logged from there on.

    Subclasses say how to `open`, `log` and `close`, and which ``package`` they need.

    Args:
        folder: where a tool that writes files writes them.
        project: the project or experiment that the run belongs to.
        name: the run's name; by default the workload's with the time.
        facts: more about the run, kept beside its hyper-parameters.

    Raises:
        UsageError: the package is missing, or the folder cannot be written to.
    """

    slug: ClassVar[str]
    package: ClassVar[str]

    def __init__(
        self,
        folder: str | Path = "logs",
        project: str = "thalweg",
        name: str | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        try:
            self.module: Any = importlib.import_module(self.package)
        except ImportError as error:
            raise UsageError(
                f"logging to {self.slug} needs the package {error.name or self.package}, which is "
                f"not installed: pip install 'thalweg[{self.slug}]'"
            ) from error
        self.folder = Path(folder)
        check_folder(self.folder)
        self.project = project
        self._name = name
        self._facts = dict(facts or {})
        self._works = False
        self._every = 1
        self._losses: list[tuple[int, float]] = []

    @abstractmethod
    def open(self, name: str, facts: Mapping[str, Any]) -> None:
        """Begin a run.

        Args:
            name: the run's name.
            facts: hyper-parameters and settings; numbers, texts, truth values or None.
        """

    @abstractmethod
    def log(self, values: Mapping[int, Mapping[str, float]]) -> None:
        """Log values by step, in order, after all earlier ones; they may be NaN or infinite."""

    @abstractmethod
    def close(self, status: str, summary: Mapping[str, Any]) -> None:
        """End the run.

        Args:
            status: ``ok``, ``diverged`` or ``failed``.
            summary: numbers and texts about the whole run.
        """

    def on_start(self, run: Run) -> None:
        """Begin a run."""
        settings = run.settings
        name = self._name or f"{run.workload.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        facts = {
            "workload": run.workload.name,
            "seed": settings.seed,
            "steps": settings.steps,
            "batch_size": run.workload.batch_size,
            "device": str(settings.device),
            "precision": settings.precision,
            **self._facts,
            **run.hyper,
        }
        self._losses = []
        self._every = max(1, settings.steps // LOSSES)
        self._works = True
        self._try("opened", lambda: self.open(name, {k: _plain(v) for k, v in facts.items()}))

    def on_step(self, run: Run, step: int, loss: float) -> None:
        """Remember the loss; nothing else, because this is inside the run's random stream."""
        if self._works and step % self._every == 0:
            self._losses.append((step, loss))

    def on_evaluate(self, run: Run, point: Point) -> None:
        """Log the losses since the last evaluation, and the evaluation."""
        values = {
            "train/mean_loss": point.train_loss,
            f"validation/{run.workload.metric_name}": point.metric,
            "train/seconds": point.seconds,
        }
        rate = run.optimizer.param_groups[0].get("lr")
        if rate is not None:
            values["train/learning_rate"] = float(rate)
        at_step = {step: {"train/loss": loss} for step, loss in self._losses}
        at_step[point.step] = {**at_step.get(point.step, {}), **values}
        self._losses = []
        self._try("written to", lambda: self.log(at_step))

    def on_end(self, run: Run, result: Result) -> None:
        """End the run."""
        summary = {
            "status": result.status,
            "final_metric": result.final_metric,
            "best_metric": result.best_metric,
            "steps": result.steps,
            "steps_to_target": result.steps_to_target,
            "seconds": result.seconds,
            "seconds_to_target": result.seconds_to_target,
            "seconds_per_step": result.seconds_per_step,
            "peak_bytes": result.peak_bytes,
            "state_bytes": result.state_bytes,
            "error": result.error,
        }
        known = {key: value for key, value in summary.items() if value is not None}
        self._try("closed", lambda: self.close(result.status, known))
        self._works = False

    def _try(self, what: str, action: Callable[[], Any]) -> None:
        if not self._works:
            return
        try:
            action()
        except Exception as error:
            self._works = False
            warnings.warn(
                f"{self.slug} could not be {what}, so the rest of this run is not logged there: "
                f"{type(error).__name__}: {error}",
                RuntimeWarning,
                stacklevel=2,
            )


def numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a summary."""
    return {key: value for key, value in summary.items() if isinstance(value, int | float)}


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
