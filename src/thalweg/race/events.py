"""What a race tells while it runs, for progress displays."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from thalweg.race.rows import Phase, RunRow
from thalweg.race.standings import Verdict


@dataclass(frozen=True)
class RaceStarted:
    """All checks have passed; work begins.

    Attributes:
        runs: runs in all, those of a hidden baseline included.
        done: runs that an earlier process finished.
        steps: steps of every run.
        entrants: their names.
        target: the target if it is known from the start.
        seconds_left: estimate, or None before anything was measured.
    """

    runs: int
    done: int
    steps: int
    entrants: tuple[str, ...]
    target: float | None
    seconds_left: float | None


@dataclass(frozen=True)
class RunStarted:
    """A run begins.

    Attributes:
        run_id: as in `thalweg.race.rows.RunRow`.
        entrant: whose.
        phase: ``target``, ``tune`` or ``final``.
        number: the trial, or the place of the seed, from 0.
        done: runs finished before it.
        runs: runs in all.
        seconds_left: estimate for the race.
    """

    run_id: str
    entrant: str
    phase: Phase
    number: int
    done: int
    runs: int
    seconds_left: float | None


@dataclass(frozen=True)
class RunStepped:
    """A run made steps; told a few times a second at most.

    Attributes:
        run_id: which run.
        step: steps done.
        steps: steps in all.
        loss: the training loss.
        seconds_left: estimate for the race.
    """

    run_id: str
    step: int
    steps: int
    loss: float
    seconds_left: float | None


@dataclass(frozen=True)
class RunFinished:
    """A run is in the store.

    Attributes:
        row: what is stored of it.
        done: runs finished, this one included.
        runs: runs in all.
        seconds_left: estimate for the race.
    """

    row: RunRow
    done: int
    runs: int
    seconds_left: float | None


@dataclass(frozen=True)
class TargetSet:
    """The target is known.

    Attributes:
        value: the metric to reach, or None if there is none.
        text: how it was set, in one sentence.
    """

    value: float | None
    text: str


@dataclass(frozen=True)
class RaceFinished:
    """All files are written.

    Attributes:
        verdict: the verdict.
    """

    verdict: Verdict


Event = RaceStarted | RunStarted | RunStepped | RunFinished | TargetSet | RaceFinished


@dataclass
class Clock:
    """Estimates how long a race still takes, from the wall times of the runs that are done.

    Attributes:
        pending: how many runs each entrant has to do.
        times: wall seconds of each entrant's finished runs that went to their end.
        workers: how many runs are done at once.
    """

    pending: Counter[str] = field(default_factory=Counter)
    times: dict[str, list[float]] = field(default_factory=dict)
    workers: int = 1

    def plan(self, entrants: Sequence[str]) -> None:
        """Add runs that are to be done, by entrant."""
        self.pending.update(entrants)

    def finished(self, row: RunRow) -> None:
        """Count a finished run."""
        self.pending[row.entrant] -= 1
        self.measured(row)

    def measured(self, row: RunRow) -> None:
        """Learn from a run that an earlier process did."""
        if row.status == "ok" and row.wall_seconds:
            self.times.setdefault(row.entrant, []).append(row.wall_seconds)

    def run_seconds(self, entrant: str) -> float | None:
        """Return what a run of an entrant takes; that of the others if it has done none."""
        known = self.times.get(entrant) or [t for times in self.times.values() for t in times]
        return math.fsum(known) / len(known) if known else None

    def seconds_left(
        self, running: str | None = None, share: float = 0.0, elapsed: float = 0.0
    ) -> float | None:
        """Return the estimate for the race, or None before anything was measured.

        Args:
            running: the entrant whose run is under way, which is still counted as pending.
            share: the part of its steps that are done.
            elapsed: its wall seconds so far.
        """
        own = None if running is None else self.run_seconds(running)
        if own is None and share > 0:
            own = elapsed / share
        total = 0.0
        for entrant, count in self.pending.items():
            seconds = self.run_seconds(entrant)
            seconds = own if seconds is None else seconds
            if count > 0 and seconds is None:
                return None
            total += count * (seconds or 0.0)
        return max(0.0, total - share * (own or 0.0)) / self.workers
