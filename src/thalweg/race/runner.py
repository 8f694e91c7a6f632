"""The runs of a race: done one after the other, and recorded."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

from thalweg import train
from thalweg.race import events, machine
from thalweg.race.live import LiveFile, forget
from thalweg.race.logs import loggers_of
from thalweg.race.plan import Planned
from thalweg.race.results import write_results
from thalweg.race.rows import CurvePoint, RunRow, Status
from thalweg.race.store import Store
from thalweg.race.training import Fit, save_weights, train_run
from thalweg.train.result import first_reached
from thalweg.workload import Workload

TELL_SECONDS = 0.1

Tell = Callable[[events.Event], None]


class Recorder:
    """Records runs and tells of them.

    Args:
        workload: what is trained.
        store: where results go.
        clock: learns from every run how long the rest takes.
        runs: how many runs the race has in all.
        done: how many of them earlier processes did.
        tell: is told of events.
    """

    def __init__(
        self,
        workload: Workload,
        store: Store,
        clock: events.Clock,
        runs: int,
        done: int,
        tell: Tell,
    ) -> None:
        self.workload = workload
        self.store = store
        self.clock = clock
        self.tell = tell
        self._runs = runs
        self._done = done

    def expect(self, runs: Sequence[Planned]) -> None:
        """Count runs that were not foreseen when the race began."""
        self._runs += len(runs)
        self.clock.plan([run.entrant for run in runs])

    def begin(self, run: Planned) -> None:
        """Tell that a run begins."""
        self.tell(
            events.RunStarted(
                run_id=run.run_id,
                entrant=run.entrant,
                phase=run.phase,
                number=run.number,
                done=self._done,
                runs=self._runs,
                seconds_left=self.clock.seconds_left(),
            )
        )

    def skip(self, run: Planned, status: Status, error: str) -> None:
        """Record a run that is not worth training."""
        self.begin(run)
        self.record(run, {"status": status, "steps": 0, "error": error}, [])

    def record(self, run: Planned, outcome: dict[str, Any], curve: list[CurvePoint]) -> None:
        """Record what a run gave; ``outcome`` has the fields of `RunRow` that the plan lacks."""
        target = self.store.target() or {"value": None}
        steps, seconds = first_reached(curve, self.workload, target["value"])
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
            **outcome,
        )
        self.store.record(row, curve)
        forget(self.store.folder, run.run_id)
        write_results(self.store)
        self._done += 1
        self.clock.finished(row)
        self.tell(
            events.RunFinished(
                row=row, done=self._done, runs=self._runs, seconds_left=self.clock.seconds_left()
            )
        )


class Runner:
    """Does runs in this process, one after the other.

    Args:
        recorder: where they go.
        fit: trains one run.
        loggers: where runs are logged besides; names of `thalweg.log`.
    """

    def __init__(self, recorder: Recorder, fit: Fit, loggers: Sequence[str] = ()) -> None:
        self._recorder = recorder
        self._config = recorder.store.config()
        self._fit = fit
        self._loggers = tuple(loggers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def train_all(self, runs: Sequence[Planned]) -> None:
        """Train runs and record each; an exception in one makes a row that says ``failed``."""
        for run in runs:
            self._train(run)

    def _train(self, run: Planned) -> None:
        recorder = self._recorder
        recorder.begin(run)
        folder = recorder.store.folder / "checkpoints" / run.run_id
        progress = _Progress(run, recorder.clock, recorder.tell)
        race, name = recorder.store.folder, recorder.workload.name
        trained = train_run(
            recorder.workload,
            self._config,
            run,
            folder,
            recorder.clock.run_seconds(run.entrant),
            (progress, LiveFile(race, run), *loggers_of(self._loggers, race, name, run)),
            self._fit,
        )
        progress.check()
        save_weights(trained.weights, recorder.store.weights(run.run_id))
        recorder.record(run, {**trained.outcome, "load": machine.load()}, trained.curve)
        shutil.rmtree(folder, ignore_errors=True)


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
