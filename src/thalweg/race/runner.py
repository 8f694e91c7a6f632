"""One run of a race: trained, measured, recorded."""

from __future__ import annotations

import math
import re
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch

from thalweg import log, train
from thalweg.core.errors import UsageError
from thalweg.core.files import write_atomically
from thalweg.race import events, machine
from thalweg.race.live import LiveFile, forget
from thalweg.race.plan import Planned
from thalweg.race.results import write_results
from thalweg.race.rows import CurvePoint, RunRow, Status
from thalweg.race.store import Store
from thalweg.train.result import first_reached
from thalweg.workload import Workload

CHECKPOINT_SECONDS = 60.0
TELL_SECONDS = 0.1

_MEASURED = (
    "status",
    "steps",
    "best_metric",
    "final_metric",
    "seconds_per_step",
    "peak_bytes",
    "state_bytes",
    "error",
    "seconds",
)

Tell = Callable[[events.Event], None]
Fit = Callable[..., train.Result]


class Runner:
    """Does the runs of a race, one after the other.

    Args:
        workload: what is trained.
        store: where results go.
        clock: learns from every run how long the rest takes.
        runs: how many runs the race has in all.
        done: how many of them earlier processes did.
        tell: is told of events.
        fit: trains one run.
        loggers: where runs are logged besides; names of `thalweg.log`.
    """

    def __init__(
        self,
        workload: Workload,
        store: Store,
        clock: events.Clock,
        runs: int,
        done: int,
        tell: Tell,
        fit: Fit,
        loggers: Sequence[str] = (),
    ) -> None:
        self._workload = workload
        self._store = store
        self._config = store.config()
        self._clock = clock
        self._runs = runs
        self._done = done
        self._tell = tell
        self._fit = fit
        self._loggers = tuple(loggers)

    def expect(self, runs: Sequence[Planned]) -> None:
        """Count runs that were not foreseen when the race began."""
        self._runs += len(runs)
        self._clock.plan([run.entrant for run in runs])

    def train(self, run: Planned) -> None:
        """Train a run and record it; an exception in it makes a row with the status ``failed``."""
        self._begin(run)
        folder = self._store.folder / "checkpoints" / run.run_id
        progress = _Progress(run, self._clock, self._tell)
        wall, processor = time.perf_counter(), time.process_time()
        outcome: dict[str, Any]
        curve: list[CurvePoint] = []
        try:
            result = self._fit_from_checkpoint(run, folder, progress)
        except Exception as error:
            progress.check()
            outcome = {"status": "failed", "steps": 0, "error": f"{type(error).__name__}: {error}"}
        else:
            progress.check()
            outcome = {name: getattr(result, name) for name in _MEASURED}
            curve = result.curve
            if run.phase == "final" and result.weights:
                self._save_weights(run, result)
        outcome["wall_seconds"] = time.perf_counter() - wall
        outcome["cpu_seconds"] = time.process_time() - processor
        self._record(run, outcome, curve)
        shutil.rmtree(folder, ignore_errors=True)

    def skip(self, run: Planned, status: Status, error: str) -> None:
        """Record a run that is not worth training."""
        self._begin(run)
        self._record(run, {"status": status, "steps": 0, "error": error}, [])

    def _fit_from_checkpoint(self, run: Planned, folder: Path, progress: _Progress) -> train.Result:
        interrupted = folder.exists()
        try:
            return self._fit_once(run, folder, progress)
        except UsageError:
            if not interrupted:
                raise
            # The checkpoint of an earlier process cannot be used; the run can start over.
            shutil.rmtree(folder)
            return self._fit_once(run, folder, progress)

    def _fit_once(self, run: Planned, folder: Path, progress: _Progress) -> train.Result:
        config = self._config
        seconds = self._clock.run_seconds(run.entrant)
        every = None  # before anything was measured: at every evaluation
        if seconds is not None:
            every = max(1, math.floor(config["steps"] * CHECKPOINT_SECONDS / max(seconds, 1e-9)))
        # A run of less than a minute starts over, unless an earlier process thought otherwise.
        short = seconds is not None and seconds < CHECKPOINT_SECONDS and not folder.exists()
        return self._fit(
            self._workload,
            run.recipe,
            steps=config["steps"],
            seed=run.seed,
            device=config["device"],
            precision=config["precision"],
            evaluate_every=config["evaluate_every"],
            callbacks=(progress, LiveFile(self._store.folder, run), *self._logs(run)),
            checkpoint=None if short else folder,
            checkpoint_every=every,
            threads=config["threads"],
            catch=True,
        )

    def _logs(self, run: Planned) -> list[log.Logger]:
        return log.make(
            self._loggers,
            folder=self._store.folder / "logs",
            project=re.sub(r"[^\w.-]+", "-", f"thalweg-{self._workload.name}"),
            name=run.run_id,
            facts={
                "entrant": run.entrant,
                "recipe": run.recipe,
                "phase": run.phase,
                "trial": run.trial,
            },
        )

    def _begin(self, run: Planned) -> None:
        self._tell(
            events.RunStarted(
                run_id=run.run_id,
                entrant=run.entrant,
                phase=run.phase,
                number=run.number,
                done=self._done,
                runs=self._runs,
                seconds_left=self._clock.seconds_left(),
            )
        )

    def _record(self, run: Planned, outcome: dict[str, Any], curve: list[CurvePoint]) -> None:
        target = self._store.target() or {"value": None}
        steps, seconds = first_reached(curve, self._workload, target["value"])
        row = RunRow(
            run_id=run.run_id,
            entrant=run.entrant,
            recipe=run.recipe,
            phase=run.phase,
            trial=run.trial,
            seed=run.seed,
            hyper=run.hyper,
            position=run.position,
            steps_to_target=steps,
            seconds_to_target=seconds,
            load=machine.load(),
            **outcome,
        )
        self._store.record(row, curve)
        forget(self._store.folder, run.run_id)
        write_results(self._store)
        self._done += 1
        self._clock.finished(row)
        self._tell(
            events.RunFinished(
                row=row, done=self._done, runs=self._runs, seconds_left=self._clock.seconds_left()
            )
        )

    def _save_weights(self, run: Planned, result: train.Result) -> None:
        weights = {name: tensor.contiguous() for name, tensor in result.weights.items()}
        file = self._store.weights(run.run_id)
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, safetensors.torch.save(weights))


class _Progress(train.Callback):
    """Tells of steps, a few times a second."""

    def __init__(self, run: Planned, clock: events.Clock, tell: Tell) -> None:
        self._run = run
        self._clock = clock
        self._tell = tell
        self._begun = self._told = time.perf_counter()
        self._first = 0
        self._error: Exception | None = None

    def check(self) -> None:
        """Raise what the listener raised: it says nothing about the run."""
        if self._error is not None:
            raise self._error

    def on_start(self, run: train.Run) -> None:
        self._begun = self._told = time.perf_counter()
        self._first = run.step  # after a checkpoint not 0

    def on_step(self, run: train.Run, step: int, loss: float) -> None:
        now = time.perf_counter()
        if now - self._told < TELL_SECONDS:
            return
        self._told = now
        steps = run.settings.steps
        elapsed = (now - self._begun) * step / max(1, step - self._first)
        left = self._clock.seconds_left(self._run.entrant, step / steps, elapsed)
        try:
            self._tell(events.RunStepped(self._run.run_id, step, steps, loss, left))
        except Exception as error:
            self._error = error
            raise
