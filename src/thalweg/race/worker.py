"""A worker: a process that takes runs from a race's queue until the race is over."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from thalweg import log, train
from thalweg._version import __version__
from thalweg.core.errors import UsageError
from thalweg.race import events, machine
from thalweg.race.config import file_digest
from thalweg.race.live import LiveFile
from thalweg.race.logs import FOLDER, loggers_of
from thalweg.race.queue import Claim, Queue, patiently
from thalweg.race.rows import RunRow
from thalweg.race.training import Trained, save_weights, train_run
from thalweg.workload import Workload, check, load

BEAT_SECONDS = 2.0
POLL_SECONDS = 0.3
ABANDONED_SECONDS = 900.0
STOP_SECONDS = 10.0

NAME_FILE = "queue.name"
WEIGHTS = "weights.safetensors"

Told = Callable[[str], None]


def work(
    address: str,
    name: str | None = None,
    *,
    wait: float = 0.0,
    tell: Told | None = None,
    orphaned: threading.Event | None = None,
) -> int:
    """Do runs of a race until it is over.

    The worker takes a run that waits, trains it with the race's own settings and number of
    threads, shows every two seconds that it is alive, and hands in the result. A race's process
    that hears nothing of a worker for a minute gives its run to another, which continues from the
    last checkpoint if the workers see the race's folder at the same path; otherwise it starts
    over, with the same numbers. Workers that do not see the folder hand in results but not
    weights, so the report draws no landscape of those runs, and log nothing.

    A worker goes home when the race is over, or after a quarter of an hour without a run or a sign
    of the race's own process.

    Args:
        address: the race's folder, or the address of its storage (see `thalweg.race.storage`).
        name: which race, if the storage holds several.
        wait: seconds to wait for the race to begin.
        tell: is told in words what the worker does.
        orphaned: set by whoever started the worker to make it give its run back and stop.

    Returns:
        How many runs the worker did.

    Raises:
        UsageError: the storage does not answer, there is no race, it was begun by another version
            of Thalweg or torch, its task file is not here or differs, or a logger of the race
            lacks its package here.
    """
    tell = tell or (lambda _: None)
    queue = Queue.join(address, name, wait)
    facts = queue.facts()
    config, race = facts["config"], Path(facts["folder"])
    workload = _workload(config)
    tell(f"working for the race {queue.name} on {workload.name}")
    loggers = facts.get("loggers", [])
    if _sees(race, queue.name):
        log.make(loggers, folder=race / FOLDER)  # what is missing is said before any run
    elif loggers:
        tell(f"nothing is logged to {', '.join(loggers)}: the race's folder {race} is not here")
    hands = _Hands(queue, orphaned or threading.Event())
    clock = events.Clock()
    done, heard, heart = 0, time.monotonic(), None
    mine = machine.worker_facts(config["device"], config["threads"])
    with hands:
        while not hands.orphaned.is_set():
            claim = patiently(lambda: queue.claim(mine))
            if claim is None:
                now = patiently(queue.facts)
                if now["closed"]:
                    break
                if now.get("heart") != heart:
                    heart, heard = now.get("heart"), time.monotonic()
                if time.monotonic() - heard > ABANDONED_SECONDS:
                    tell("the race's own process is silent; begin it again, and workers with it")
                    break
                hands.orphaned.wait(POLL_SECONDS)
                continue
            heard = time.monotonic()
            tell(f"{claim.run.run_id}: {claim.run.recipe}")
            with _attempt_folder(race, queue.name, claim) as folder:
                hands.take(claim)
                seconds = clock.run_seconds(claim.run.entrant)
                callbacks: list[train.Callback] = [hands]
                if _sees(race, queue.name):
                    logged = loggers_of(loggers, race, workload.name, claim.run)
                    callbacks += [LiveFile(race, claim.run), *logged]
                try:
                    trained = train_run(workload, config, claim.run, folder, seconds, callbacks)
                except _Lost:
                    tell(f"{claim.run.run_id} was given up")
                    hands.drop()
                    continue
                _keep_weights(trained, folder)
                wanted = queue.hand_in(claim.ticket, _result(trained))
                hands.drop()
                if not trained.weights or not wanted:
                    shutil.rmtree(folder, ignore_errors=True)
            done += wanted
            clock.measured(_row(claim, trained))
    return done


class _Lost(BaseException):
    """The run is no longer this worker's; no exception that training could take for its own."""


class _Hands(train.Callback):
    """Holds a claim: shows that the worker is alive, and gives the run back if it has to stop."""

    def __init__(self, queue: Queue, orphaned: threading.Event) -> None:
        self.orphaned = orphaned
        self._lost = False
        self._queue = queue
        self._claim: Claim | None = None
        self._step, self._loss = 0, 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> _Hands:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self.drop()

    def take(self, claim: Claim) -> None:
        self._step, self._loss, self._lost = 0, 0.0, False
        self._claim = claim

    def drop(self) -> None:
        """Let go of the claim; if nothing was handed in, the run goes back."""
        claim, self._claim = self._claim, None
        if claim is not None:
            with contextlib.suppress(Exception):
                self._queue.give_up(claim.ticket, returned=True)

    def on_step(self, run: train.Run, step: int, loss: float) -> None:
        self._step, self._loss = step, loss
        if self._lost or self.orphaned.is_set():
            raise _Lost

    def _beat(self) -> None:
        count = 0
        while not self._end.wait(BEAT_SECONDS):
            claim = self._claim
            if claim is None:
                continue
            count += 1
            # A storage that does not answer now may answer the next time.
            with contextlib.suppress(Exception):
                held = self._queue.beat(claim.ticket, [count, self._step, self._loss])
                if not held and claim is self._claim:
                    self._lost = True


def _workload(config: dict[str, Any]) -> Workload:
    for key, what, here in (
        ("thalweg", "Thalweg", __version__),
        ("torch", "torch", torch.__version__),
    ):
        if config[key] != here:
            raise UsageError(
                f"the race was begun with {what} {config[key]} and this worker has {here}; its "
                f"runs would not be comparable. Install {what} {config[key]} here"
            )
    digest = config["workload_sha256"]
    if digest is not None:
        file = Path(config["workload"])
        if not file.is_file():
            raise UsageError(f"the race's task file {file} is not on this machine; copy it there")
        if file_digest(file) != digest:
            raise UsageError(
                f"the task file {file} differs from the one that the race was begun with"
            )
    workload = load(config["workload"])
    check(workload, config["device"])
    return workload


def attempt_folder(race: Path, run_id: str, ticket: int) -> Path:
    """Return where an attempt at a run keeps checkpoints and, at its end, `WEIGHTS`."""
    return race / "checkpoints" / f"{run_id}.{ticket}"


@contextlib.contextmanager
def _attempt_folder(race: Path, name: str, claim: Claim) -> Iterator[Path]:
    """Give the folder of an attempt's checkpoints and weights.

    It takes over that of an earlier attempt by renaming it: a worker that was given up, but is
    not dead, has then nowhere to write to.
    """
    if not _sees(race, name):
        with tempfile.TemporaryDirectory(prefix="thalweg-") as temporary:
            yield Path(temporary) / "checkpoints"
        return
    base = race / "checkpoints"
    base.mkdir(exist_ok=True)
    folder = attempt_folder(race, claim.run.run_id, claim.ticket)
    for earlier in [*sorted(base.glob(f"{claim.run.run_id}.*")), base / claim.run.run_id]:
        if earlier != folder and earlier.exists() and not folder.exists():
            with contextlib.suppress(OSError):
                earlier.rename(folder)
        elif earlier != folder:
            shutil.rmtree(earlier, ignore_errors=True)
    yield folder


def _sees(race: Path, name: str) -> bool:
    try:
        return (race / NAME_FILE).read_text() == name
    except OSError:
        return False


def _keep_weights(trained: Trained, folder: Path) -> None:
    if trained.weights:
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(trained.weights, folder / WEIGHTS)


def _result(trained: Trained) -> dict[str, Any]:
    return {
        "outcome": {**trained.outcome, "load": machine.load()},
        "curve": [[p.step, p.seconds, p.train_loss, p.metric] for p in trained.curve],
    }


def _row(claim: Claim, trained: Trained) -> RunRow:
    run = claim.run
    return RunRow(
        run.run_id,
        run.entrant,
        run.recipe,
        run.phase,
        run.trial,
        run.seed,
        **trained.outcome,
    )


def child() -> None:
    """Work as a process that `thalweg.race.fleet` started, told by ``THALWEG_WORKER``.

    It ends with the process that started it, whose end its standard input shows, however that
    comes: it gives its run back first.
    """
    told = json.loads(os.environ["THALWEG_WORKER"])
    orphaned = threading.Event()

    def watch() -> None:
        sys.stdin.buffer.read()
        orphaned.set()
        time.sleep(STOP_SECONDS)  # for the step under way
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        work(told["address"], told["name"], wait=10.0, orphaned=orphaned)
    except UsageError as error:
        sys.exit(f"error: {error}")
