"""What is under way in a race, for those who watch it from another process.

Each run that is being trained keeps a small file ``live/<run_id>.json`` in the race's folder, and
removes it when the run is in the store. Losing one loses nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thalweg import train
from thalweg.race.plan import Planned
from thalweg.race.rows import CurvePoint, Phase

FOLDER = "live"
_RUN_ID = re.compile(r"(target|tune|final)-\d{2,3}-\d{3,4}")
SECONDS = 1.0
"""How long a file may lag behind its run."""


@dataclass(frozen=True)
class LiveRun:
    """A run under way.

    Attributes:
        run_id: as in `thalweg.race.rows.RunRow`, like the next two.
        entrant: whose it is.
        phase: ``target``, ``tune`` or ``final``.
        number: the trial, or the place of the seed, from 0.
        host: the machine that trains it.
        pid: the process there.
        first: the step that it began with; after a checkpoint not 0.
        step: steps done.
        steps: steps in all.
        loss: the latest training loss, or None before the first step.
        started: when it began, in seconds since 1970.
        heard: when this was written.
        curve: its evaluations so far.
    """

    run_id: str
    entrant: str
    phase: Phase
    number: int
    host: str
    pid: int
    first: int
    step: int
    steps: int
    loss: float | None
    started: float
    heard: float
    curve: tuple[CurvePoint, ...]

    @property
    def share(self) -> float:
        """Return the part of its steps that are done."""
        return self.step / self.steps

    @property
    def elapsed(self) -> float:
        """Return the seconds that the steps so far took, those of an earlier process guessed."""
        return (self.heard - self.started) * self.step / max(1, self.step - self.first)


class LiveFile(train.Callback):
    """Keeps the file of one run; whatever goes wrong with it does not concern the run."""

    def __init__(self, folder: Path, run: Planned) -> None:
        self._path = folder / FOLDER / f"{run.run_id}.json"
        self._facts: dict[str, Any] = {
            "run_id": run.run_id,
            "entrant": run.entrant,
            "phase": run.phase,
            "number": run.number,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": time.time(),
        }
        self._loss: float | None = None
        self._written = 0.0

    def on_start(self, run: train.Run) -> None:
        """Make the file."""
        self._facts |= {"first": run.step, "steps": run.settings.steps, "started": time.time()}
        self._write(run)

    def on_step(self, run: train.Run, step: int, loss: float) -> None:
        """Write the step, once a second."""
        del step
        self._loss = loss
        if time.perf_counter() - self._written > SECONDS:
            self._write(run)

    def on_evaluate(self, run: train.Run, point: CurvePoint) -> None:
        """Write the curve, once a second."""
        del point
        if time.perf_counter() - self._written > SECONDS:
            self._write(run)

    def _write(self, run: train.Run) -> None:
        self._written = time.perf_counter()
        curve = [(p.step, p.seconds, p.train_loss, p.metric) for p in run.curve]
        facts = {
            **self._facts,
            "step": run.step,
            "loss": self._loss,
            "curve": curve,
            "heard": time.time(),
        }
        # Whole or absent, but not flushed: after a crash it says nothing anyway.
        temporary = self._path.with_suffix(".tmp")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(exist_ok=True)
            temporary.write_text(json.dumps(facts))
            temporary.replace(self._path)


def forget(folder: Path, run_id: str | None = None) -> None:
    """Remove the file of a run, or all of them."""
    if run_id is None:
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            (folder / FOLDER / f"{run_id}.json").unlink(missing_ok=True)


def read_live(folder: Path) -> list[LiveRun]:
    """Return the runs under way, by id; also those of processes that died."""
    place = folder / FOLDER
    found = []
    # Links are not followed: nobody needs one here, and one could lead anywhere.
    files = [] if place.is_symlink() else sorted(place.glob("*.json"))
    for file in files:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            if file.is_symlink() or not file.is_file():
                continue
            facts = json.loads(file.read_text())
            if not _RUN_ID.fullmatch(facts["run_id"]):
                continue
            curve = tuple(CurvePoint(*point) for point in facts.pop("curve"))
            found.append(LiveRun(**facts, curve=curve))
    return found
