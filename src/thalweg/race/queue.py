"""The queue: runs wait here for workers, on storages that several machines can share.

A queue is a study of Optuna, in whatever storage Optuna has: SQLite, a journal file, PostgreSQL or
MySQL by URL, or its gRPC proxy. Each posted run is a trial of it. Optuna's state of a trial is the
claim: of all workers that try to set it from waiting to running, the storage lets one; and a trial
that has ended stays as it ended, so a worker that was given up cannot hand in its run any more.

The queue only carries runs to workers and results back. The race's own process alone writes
``race.sqlite``, and copies there what workers hand in; if a queue is lost, the race goes on with a
new one and does again what was under way. That is why the race's store, which would need locks
that work over a network, is not shared itself, and why no second mechanism was written for it.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from thalweg.core.errors import UsageError
from thalweg.race.plan import Planned
from thalweg.race.storage import open_storage, shown

FILE_NAME = "queue.sqlite"
PREFIX = "thalweg-race-"
RETRY_SECONDS = 60.0

T = TypeVar("T")


@dataclass(frozen=True)
class Claim:
    """A run in the hands of a worker.

    Attributes:
        ticket: the number of this attempt in its queue.
        run: the run.
        worker: the worker's facts (see `thalweg.race.machine.worker_facts`).
        beat: changes as long as the worker is alive; ``[count, step, loss]``.
    """

    ticket: int
    run: Planned
    worker: dict[str, Any]
    beat: list[Any]


class Queue:
    """The queue of one race.

    Args:
        storage: an Optuna storage.
        study: the study's number in it.
        name: the race's name, unique.
    """

    def __init__(self, storage: Any, study: int, name: str) -> None:
        self._storage = storage
        self._study = study
        self.name = name

    @classmethod
    def begin(cls, address: str, name: str, facts: dict[str, Any]) -> Self:
        """Make the queue of a race, or come back to it.

        Args:
            address: as `thalweg.race.storage.open_storage` takes it.
            name: the race's name.
            facts: what a worker has to know: ``config`` (as `Store.config`), ``folder``, and
                ``loggers`` (names of `thalweg.log`).

        Raises:
            UsageError: the storage does not answer.
        """
        from optuna.exceptions import DuplicatedStudyError
        from optuna.study import StudyDirection

        storage = open_storage(address)
        try:
            study = storage.create_new_study([StudyDirection.MINIMIZE], PREFIX + name)
        except DuplicatedStudyError:
            study = storage.get_study_id_from_name(PREFIX + name)
        queue = cls(storage, study, name)
        storage.set_study_user_attr(study, "race", json.dumps({**facts, "closed": False}))
        return queue

    @classmethod
    def join(cls, address: str, name: str | None = None, wait: float = 0.0) -> Self:
        """Return the queue of the race under way in a storage.

        Args:
            address: as `thalweg.race.storage.open_storage` takes it, or a race's folder.
            name: which race, if there are several.
            wait: seconds to wait for one to begin.

        Raises:
            UsageError: the storage does not answer, there is no such race, or there are several.
        """
        end = time.monotonic() + wait
        while True:
            found = cls._open(address, name)
            if len(found) == 1:
                return found[0]
            if len(found) > 1:
                names = ", ".join(sorted(queue.name for queue in found))
                raise UsageError(f"several races are under way there: {names}; choose by --race")
            if time.monotonic() > end:
                what = f'the race "{name}"' if name else "a race that takes workers"
                raise UsageError(
                    f"{what} is not under way in {shown(address)}; begin one with thalweg race "
                    "--workers N, or --storage with this address, or --wait for it"
                )
            time.sleep(0.5)

    @classmethod
    def _open(cls, address: str, name: str | None) -> list[Self]:
        if "://" not in address:
            path = Path(address)
            folder = path.parent if path.name == "race.sqlite" else path
            address = str(folder / FILE_NAME if folder.is_dir() else path)
        storage = open_storage(address, create=False)
        if storage is None:
            return []
        found = []
        for study in storage.get_all_studies():
            short = study.study_name.removeprefix(PREFIX)
            if short != study.study_name and name in (None, short):
                queue = cls(storage, storage.get_study_id_from_name(study.study_name), short)
                if not queue.facts()["closed"]:
                    found.append(queue)
        return found

    def facts(self) -> dict[str, Any]:
        """Return what `begin` was given, whether the race is over (``closed``), and ``heart``.

        The heart changes as long as the race's own process lives. A queue that was removed is
        one of a race that is over.
        """
        try:
            attributes = self._storage.get_study_user_attrs(self._study)
        except KeyError:
            return {"closed": True}
        if "race" not in attributes:
            return {"closed": True}  # begun this very moment
        return {**json.loads(attributes["race"]), "heart": attributes.get("heart")}

    # The race's side

    def post(self, run: Planned) -> int:
        """Add a run and return its ticket."""
        from optuna.trial import TrialState, create_trial

        text = json.dumps(dataclasses.asdict(run))
        template = create_trial(state=TrialState.WAITING, user_attrs={"run": text})
        return self._storage.create_new_trial(self._study, template)

    def posted(self) -> dict[int, tuple[str, str]]:
        """Return, by ticket, the run's id and its state; ``WAITING``, ``RUNNING``, ...."""
        trials = self._storage.get_all_trials(self._study, deepcopy=False)
        return {
            one._trial_id: (json.loads(one.user_attrs["run"])["run_id"], one.state.name)
            for one in trials
            if "run" in one.user_attrs
        }

    def open(self) -> tuple[set[int], dict[int, Claim]]:
        """Return the tickets that wait for a worker, and those that have one with their claims."""
        from optuna.trial import TrialState

        states = (TrialState.WAITING, TrialState.RUNNING)
        trials = self._storage.get_all_trials(self._study, deepcopy=False, states=states)
        waiting = {one._trial_id for one in trials if one.state == TrialState.WAITING}
        running = {one._trial_id: _claim(one) for one in trials if one._trial_id not in waiting}
        return waiting, running

    def result(self, ticket: int) -> dict[str, Any] | None:
        """Return what a worker handed in, with its facts as ``worker``; None if it gave up."""
        from optuna.trial import TrialState

        trial = self._storage.get_trial(ticket)
        if trial.state != TrialState.COMPLETE:
            return None
        return {**json.loads(trial.user_attrs["result"]), "worker": _claim(trial).worker}

    def returned(self, ticket: int) -> bool:
        """Return whether a worker gave the run back by itself, rather than dying with it."""
        return "returned" in self._storage.get_trial(ticket).user_attrs

    def show_heart(self) -> None:
        """Show that the race's own process is alive."""
        self._storage.set_study_user_attr(self._study, "heart", time.time())

    def close(self) -> None:
        """Send all workers home."""
        text = json.dumps({**self.facts(), "closed": True})
        self._storage.set_study_user_attr(self._study, "race", text)

    # A worker's side

    def claim(self, worker: dict[str, Any]) -> Claim | None:
        """Return the next run that waits, now this worker's; None if none waits."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        states = (TrialState.WAITING,)
        trials = self._storage.get_all_trials(self._study, deepcopy=False, states=states)
        for trial in sorted(trials, key=lambda one: one.number):
            try:
                mine = self._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
            except UpdateFinishedTrialError:
                continue
            if mine:
                self._storage.set_trial_user_attr(trial._trial_id, "worker", json.dumps(worker))
                return dataclasses.replace(_claim(trial), worker=worker)
        return None

    def beat(self, ticket: int, beat: list[Any]) -> bool:
        """Show that the worker is alive; return whether the run is still its."""
        return self._while_running(
            lambda: self._storage.set_trial_user_attr(ticket, "beat", json.dumps(beat))
        )

    def hand_in(self, ticket: int, result: dict[str, Any]) -> bool:
        """Hand in a result; return whether it was wanted.

        A storage that does not answer is asked again for a minute.
        """
        from optuna.trial import TrialState

        def deliver() -> None:
            self._storage.set_trial_user_attr(ticket, "result", json.dumps(result))
            self._storage.set_trial_state_values(ticket, TrialState.COMPLETE)

        return patiently(lambda: self._while_running(deliver))

    def give_up(self, ticket: int, returned: bool = False) -> bool:
        """End an attempt without a result; return whether it had not ended before.

        Args:
            ticket: which.
            returned: whether the worker does it itself, in an orderly way.
        """
        from optuna.trial import TrialState

        def deliver() -> None:
            if returned:
                self._storage.set_trial_user_attr(ticket, "returned", json.dumps(True))
            self._storage.set_trial_state_values(ticket, TrialState.FAIL)

        return self._while_running(deliver)

    def _while_running(self, change: Callable[[], None]) -> bool:
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            change()
        except (UpdateFinishedTrialError, KeyError):  # KeyError: the queue was removed
            return False
        return True


def patiently(ask: Callable[[], T]) -> T:
    """Return what a storage answers, asking again for a minute where it does not."""
    end = time.monotonic() + RETRY_SECONDS
    pause = 0.5
    while True:
        try:
            return ask()
        except Exception:
            if time.monotonic() + pause > end:
                raise
            time.sleep(pause)
            pause = min(2 * pause, 10.0)


def _claim(trial: Any) -> Claim:
    attributes = trial.user_attrs
    return Claim(
        ticket=trial._trial_id,
        run=Planned(**json.loads(attributes["run"])),
        worker=json.loads(attributes.get("worker", "{}")),
        beat=json.loads(attributes.get("beat", "[0, 0, null]")),
    )
