"""Runs of a race done by many workers, and collected by the race's own process."""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from thalweg.core.checks import check_whole
from thalweg.core.files import write_atomically
from thalweg.race import events, machine
from thalweg.race.fleet import Fleet, make_fleet
from thalweg.race.plan import Planned
from thalweg.race.queue import FILE_NAME, Claim, Queue, patiently
from thalweg.race.rows import CurvePoint
from thalweg.race.runner import Recorder
from thalweg.race.storage import open_storage, require_optuna
from thalweg.race.worker import NAME_FILE, WEIGHTS, attempt_folder

LEASE_SECONDS = 60.0
POLL_SECONDS = 0.2
HEART_SECONDS = 30.0
DEATHS = 25


@dataclass(frozen=True)
class Scale:
    """How many workers do the runs of a race, and where; it changes no number but times.

    Attributes:
        workers: how many to start; None for none of its own if nothing else is given, which means
            that the race's own process does all runs.
        storage: where runs wait, for workers on other machines (see `thalweg.race.storage`); a
            file in the race's folder by default.
        cluster: who starts the workers (see `thalweg.race.fleet.make_fleet`).
    """

    workers: int | None = None
    storage: str | None = None
    cluster: str | None = None

    @property
    def alone(self) -> bool:
        """Return whether the race's own process does all runs."""
        return self.workers is None and self.storage is None and self.cluster is None

    def check(self, folder: Path) -> None:
        """Check what can be checked before the race begins.

        Raises:
            UsageError: a number is out of range, an extra is missing, a storage or cluster does
                not answer.
        """
        if self.workers is not None:
            check_whole("workers", self.workers, least=1)
        if not self.alone:
            make_fleet(self.workers, self.cluster, folder, "", "", 1)
            require_optuna()
            if self.storage is not None:
                open_storage(self.storage)


class Pool:
    """Hands runs to workers and records what they give.

    As a context manager it sends the workers home at the end. Nothing is started before there is
    a run to do.

    Args:
        recorder: where results go.
        scale: how many workers, and where.
        loggers: where workers log runs besides; names of `thalweg.log`.
    """

    def __init__(self, recorder: Recorder, scale: Scale, loggers: Sequence[str] = ()) -> None:
        self._recorder = recorder
        self._scale = scale
        self._loggers = list(loggers)
        self._queue: Queue | None = None
        self._fleet: Fleet | None = None
        self._alive: dict[int, tuple[list[Any], float]] = {}
        self._deaths: dict[str, int] = {}
        self._heart = 0.0
        self._begun: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        finished = kind is None
        if self._queue is not None and finished:
            patiently(self._queue.close)
        if self._fleet is not None:
            self._fleet.stop(finished)
        if finished:
            for name in (FILE_NAME, NAME_FILE):
                with contextlib.suppress(OSError):
                    (self._recorder.store.folder / name).unlink()

    def train_all(self, runs: Sequence[Planned]) -> None:
        """Have runs trained and record each as it comes in.

        What an earlier process of this race posted is taken up: results that nobody fetched, runs
        that are under way, runs that wait.

        Raises:
            UsageError: workers cannot be started, or die of an error of their own; what was
                handed in is recorded.
        """
        if not runs:
            return
        queue, fleet = self._start()
        wanted = {run.run_id: run for run in runs}
        tickets: dict[int, Planned] = {}
        for ticket, (run_id, state) in patiently(queue.posted).items():
            if run_id in wanted and state != "FAIL":
                tickets[ticket] = wanted.pop(run_id)
        for run in wanted.values():
            tickets[queue.post(run)] = run
        while tickets:
            waiting, running = patiently(queue.open)
            ended = [one for one in tickets if one not in waiting and one not in running]
            for ticket in ended:
                run = tickets.pop(ticket)
                if not self._collect(queue, ticket, run):
                    again = self._again(queue, ticket, run)
                    if again is not None:
                        tickets[again] = run
            mine = {ticket: one for ticket, one in running.items() if ticket in tickets}
            self._tell_of(mine, tickets)
            if tickets:
                fleet.watch()
            for ticket, claim in mine.items():
                if self._is_dead(ticket, claim):
                    patiently(lambda ticket=ticket: queue.give_up(ticket))
            if time.monotonic() - self._heart > HEART_SECONDS:
                patiently(queue.show_heart)
                self._heart = time.monotonic()
            if not ended:
                time.sleep(POLL_SECONDS)

    def _start(self) -> tuple[Queue, Fleet]:
        if self._queue is not None and self._fleet is not None:
            return self._queue, self._fleet
        store, scale = self._recorder.store, self._scale
        folder, config = store.folder.resolve(), store.config()
        name_file = folder / NAME_FILE
        if not name_file.exists():
            write_atomically(name_file, uuid.uuid4().hex[:12])
        name = name_file.read_text()
        address = scale.storage or str(folder / FILE_NAME)
        facts = {"config": config, "folder": str(folder), "loggers": self._loggers}
        self._queue = Queue.begin(address, name, facts)
        fleet = make_fleet(scale.workers, scale.cluster, folder, address, name, config["threads"])
        fleet.start()
        self._fleet = fleet
        self._recorder.clock.workers = fleet.count
        facts = store.machine()
        here = fleet.count if scale.cluster in (None, "ray") else 1
        facts["workers_at_once"] = max(here, facts.get("workers_at_once", 1))
        store.set_facts(machine=facts)
        return self._queue, fleet

    def _collect(self, queue: Queue, ticket: int, run: Planned) -> bool:
        """Record what a worker handed in; return whether it had handed in anything."""
        result = patiently(lambda: queue.result(ticket))
        if result is None:
            return False
        recorder, store = self._recorder, self._recorder.store
        if ticket not in self._begun:
            recorder.begin(run)
        folder = attempt_folder(store.folder, run.run_id, ticket)
        weights = store.weights(run.run_id)
        if (folder / WEIGHTS).exists():
            weights.parent.mkdir(exist_ok=True)
            (folder / WEIGHTS).replace(weights)
        worker = result["worker"]
        self._meet(worker)
        curve = [CurvePoint(*point) for point in result["curve"]]
        recorder.record(run, {**result["outcome"], "worker": worker.get("name")}, curve)
        shutil.rmtree(folder, ignore_errors=True)
        return True

    def _again(self, queue: Queue, ticket: int, run: Planned) -> int | None:
        """Post a run whose worker was lost again; if it kills them all, record that instead."""
        if not patiently(lambda: queue.returned(ticket)):
            self._deaths[run.run_id] = self._deaths.get(run.run_id, 0) + 1
        deaths = self._deaths.get(run.run_id, 0)
        if deaths >= DEATHS:
            self._recorder.skip(run, "failed", f"the workers that ran it died, {deaths} times")
            return None
        return patiently(lambda: queue.post(run))

    def _is_dead(self, ticket: int, claim: Claim) -> bool:
        worker = claim.worker
        if worker.get("host") == machine.host() and not machine.is_alive(worker["pid"]):
            return True
        beat, since = self._alive.get(ticket, (None, 0.0))
        if beat != claim.beat:
            # Measured by this process's own clock; those of other machines may differ.
            self._alive[ticket] = (claim.beat, time.monotonic())
            return False
        return time.monotonic() - since > LEASE_SECONDS

    def _tell_of(self, running: dict[int, Claim], tickets: dict[int, Planned]) -> None:
        recorder = self._recorder
        steps = recorder.store.config()["steps"]
        for ticket, claim in running.items():
            run = tickets[ticket]
            if ticket not in self._begun:
                self._begun.add(ticket)
                recorder.begin(run)
            _, step, loss = claim.beat
            if loss is not None and self._alive.get(ticket, (None,))[0] != claim.beat:
                left = recorder.clock.seconds_left()
                recorder.tell(events.RunStepped(run.run_id, step, steps, loss, left))

    def _meet(self, worker: dict[str, Any]) -> None:
        facts = self._recorder.store.machine()
        known = facts.get("workers", {})
        if worker.get("name") not in known:
            kept = {key: value for key, value in worker.items() if key not in ("name", "host")}
            facts["workers"] = {**known, str(worker.get("name")): kept}
            self._recorder.store.set_facts(machine=facts)
