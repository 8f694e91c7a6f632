"""Several races together: AlgoPerf's scores of them, and who improves on whom over workloads."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from thalweg.core.errors import UsageError
from thalweg.core.files import write_atomically
from thalweg.core.seeds import derive_seed
from thalweg.race.machine import contention
from thalweg.race.rows import RunRow
from thalweg.race.score import LEVEL, Scores, probability_of_improvement, resampled_wins
from thalweg.race.stages import final_scores
from thalweg.race.store import Store
from thalweg.scoring.runs import Run, Runs
from thalweg.scoring.suite import Suite

RESAMPLES = 2000


@dataclass(frozen=True)
class Improvement:
    """How probably a run of ``a`` beats a run of ``b``, on average over workloads.

    Attributes:
        a: an entrant.
        b: another one.
        workloads: how many both were raced on.
        probability: the mean over workloads of `probability_of_improvement`.
        low: lower end of its 95 % stratified bootstrap interval over seeds: what it says of these
            workloads.
        high: upper end.
        wide_low: lower end with workloads drawn anew as well: what it says of others like them.
        wide_high: upper end.
    """

    a: str
    b: str
    workloads: int
    probability: float
    low: float
    high: float
    wide_low: float
    wide_high: float


@dataclass(frozen=True)
class Races:
    """Finished races, on different workloads, by one ruleset.

    Attributes:
        runs: as a table that `thalweg.scoring` scores. In the ruleset ``external`` the trials by
            study; in the others each final run is a study of one.
        suite: the workloads and targets.
        improvements: of every pair of entrants that share a workload.
        unit: ``seconds``, or ``steps`` if the machine of one of the races was busy.
        notes: what is to be known.
    """

    runs: Runs
    suite: Suite
    improvements: tuple[Improvement, ...]
    unit: str
    notes: tuple[str, ...]


def read_races(folders: Sequence[Path]) -> Races:
    """Read finished races.

    Raises:
        UsageError: no race, one that is not finished or has no target, two on one workload, or of
            different rulesets.
    """
    rows: list[tuple[str, RunRow, str, int]] = []
    targets: dict[str, float] = {}
    scores: dict[str, dict[str, Scores]] = {}
    rulesets: dict[str, Path] = {}
    busy: list[str] = []
    for folder in folders:
        with Store.open(folder) as store:
            name, config = _checked(store, scores), store.config()
            targets[name] = float((store.target() or {})["value"])
            rules = config.get("ruleset", "budget")
            rulesets.setdefault(rules, folder)
            external = rules == "external"
            found = store.runs("tune" if external else "final")
            trials = config["trials"] if external else 1
            rows += [
                (name, row, _study(row, trials, external), config["evaluate_every"])
                for row in found
            ]
            scores[name] = {
                one["name"]: final_scores(store, one["name"]) for one in config["entrants"]
            }
            if why := contention(store.runs(), store.machine()):
                busy.append(f"{name}: {why}")
    if len(rulesets) > 1:
        (one, first), (other, second), *_ = rulesets.items()
        raise UsageError(
            f"{first} was raced by the ruleset {one} and {second} by {other}; score races of one "
            "ruleset together"
        )
    unit = "steps" if busy else "seconds"
    notes = [f"steps are scored, not times, because a machine was busy: {busy[0]}"] if busy else []
    runs = tuple(_run(name, row, study, every, unit) for name, row, study, every in rows)
    return Races(
        Runs(runs, "the races"),
        Suite(base=tuple(targets), targets=targets),
        tuple(_improvements(scores)),
        unit,
        tuple(notes),
    )


def improvement(
    x: Sequence[Scores], y: Sequence[Scores], rng: np.random.Generator, resamples: int = RESAMPLES
) -> tuple[float, tuple[float, float], tuple[float, float]]:
    """Return the probability of improvement over tasks, its interval, and the wide interval.

    Args:
        x: scores of the runs of one entrant, for each task; any number of runs.
        y: likewise, of the other entrant.
        rng: draws the resamples.
        resamples: how many.
    """
    tasks = len(x)
    value = float(np.mean([probability_of_improvement(a, b) for a, b in zip(x, y, strict=True)]))
    # A task that is drawn twice has its runs drawn twice: shape (places, tasks, resamples).
    drawn = np.array(
        [
            [resampled_wins(a, b, rng, resamples) for a, b in zip(x, y, strict=True)]
            for _ in range(tasks)
        ]
    )
    ends = [LEVEL / 2, 1 - LEVEL / 2]
    low, high = np.quantile(drawn[0].mean(0), ends)
    chosen = rng.integers(tasks, size=(tasks, 1, resamples))
    wide = np.take_along_axis(drawn, chosen, axis=1).mean((0, 1))
    wide_low, wide_high = np.quantile(wide, ends)
    return value, (float(low), float(high)), (float(wide_low), float(wide_high))


def write_improvements(races: Races, folder: Path) -> Path:
    """Write improvements.csv into an existing folder."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ("a", "b", "workloads", "probability", "low", "high", "wide_low", "wide_high")
    writer.writerow(head)
    writer.writerows([[getattr(one, name) for name in head] for one in races.improvements])
    path = folder / "improvements.csv"
    write_atomically(path, text.getvalue())
    return path


def _checked(store: Store, seen: dict[str, dict[str, Scores]]) -> str:
    name = store.workload()["name"]
    if not store.finished():
        raise UsageError(
            f"the race in {store.folder} is not finished; run its command again to continue it"
        )
    if (store.target() or {}).get("value") is None:
        raise UsageError(
            f"the race in {store.folder} has no target, so there are no times to it; race into a "
            "new folder with --target"
        )
    if name in seen:
        raise UsageError(
            f"{store.folder} is a second race on {name}; a workload can be scored once"
        )
    return name


def _study(row: RunRow, trials: int, external: bool) -> str:
    return f"study_{row.trial // trials if external else int(row.run_id.split('-')[2])}"


def _run(workload: str, row: RunRow, study: str, every: int, unit: str) -> Run:
    time = row.seconds_to_target if unit == "seconds" else row.steps_to_target
    hit = row.steps_to_target
    return Run(
        submission=row.entrant,
        workload=workload,
        study=study,
        trial=f"trial_{row.trial}",
        time_to_target=math.inf if time is None else float(time),
        evaluations_to_target=None if hit is None else math.ceil(hit / every),
    )


def _improvements(scores: dict[str, dict[str, Scores]]) -> list[Improvement]:
    names = list(dict.fromkeys(name for by_name in scores.values() for name in by_name))
    found = []
    for a, b in combinations(names, 2):
        both = [one for one in scores.values() if a in one and b in one]
        if both:
            rng = np.random.default_rng(derive_seed(0, "improvement", a, b))
            value, near, wide = improvement([one[a] for one in both], [one[b] for one in both], rng)
            found.append(Improvement(a, b, len(both), value, *near, *wide))
    return found
