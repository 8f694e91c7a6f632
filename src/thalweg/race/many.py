"""Several races together: AlgoPerf's scores of them, and who improves on whom over workloads."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from thalweg.core.errors import UsageError
from thalweg.core.files import write_atomically
from thalweg.race.improvement import Improvement, improvements
from thalweg.race.machine import contention
from thalweg.race.rows import RunRow
from thalweg.race.score import Scores
from thalweg.race.stages import final_scores
from thalweg.race.store import Store
from thalweg.race.verdict import judge
from thalweg.scoring.runs import Run, Runs
from thalweg.scoring.suite import Suite


@dataclass(frozen=True)
class Finished:
    """One of the races.

    Attributes:
        folder: where it is.
        workload: its workload's name.
        title: the workload's title.
        verdict: the first sentence of its own verdict.
        winner: the entrant that its verdict calls the winner, or None.
        metric: what ranks there.
        target: the metric's value that counts as reached.
        runs: how many, of every kind.
        wall_seconds: of all of them, added up; None if it was not recorded for one.
        cpu_seconds: processor time of all of them, likewise.
    """

    folder: Path
    workload: str
    title: str
    verdict: str
    winner: str | None
    metric: str
    target: float
    runs: int
    wall_seconds: float | None
    cpu_seconds: float | None


@dataclass(frozen=True)
class Races:
    """Finished races, on different workloads, by one ruleset.

    Attributes:
        runs: as a table that `thalweg.scoring` scores. In the ruleset ``external`` the trials by
            study; in the others each final run is a study of one.
        suite: the workloads and targets.
        improvements: of every pair of entrants that share a workload.
        recipes: the recipe of each entrant, of the first race that it took part in.
        ruleset: by which all were run.
        races: each of them, in the order given.
        unit: ``seconds``, or ``steps`` if the machine of one of the races was busy.
        notes: what is to be known.
    """

    runs: Runs
    suite: Suite
    improvements: tuple[Improvement, ...]
    recipes: Mapping[str, str]
    ruleset: str
    races: tuple[Finished, ...]
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
    planned: dict[str, int] = {}
    recipes: dict[str, str] = {}
    races: list[Finished] = []
    notes: list[str] = []
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
            planned[name] = config["seeds"]
            for one in config["entrants"]:
                if recipes.setdefault(one["name"], one["recipe"]) != one["recipe"]:
                    notes.append(f"{one['name']} is not the same recipe on {name} as before")
            every_run = store.runs()
            races.append(_finished(store, every_run, targets[name]))
            if why := contention(every_run, store.machine()):
                busy.append(f"{name}: {why}")
    if len(rulesets) > 1:
        (one, first), (other, second), *_ = rulesets.items()
        raise UsageError(
            f"{first} was raced by the ruleset {one} and {second} by {other}; score races of one "
            "ruleset together"
        )
    unit = "steps" if busy else "seconds"
    if busy:
        notes.insert(0, f"steps are scored, not times, because a machine was busy: {busy[0]}")
    runs = tuple(_run(name, row, study, every, unit) for name, row, study, every in rows)
    return Races(
        Runs(runs, "the races"),
        Suite(base=tuple(targets), targets=targets),
        tuple(improvements(scores, planned)),
        recipes,
        next(iter(rulesets)),
        tuple(races),
        unit,
        tuple(notes),
    )


def write_improvements(races: Races, folder: Path) -> Path:
    """Write improvements.csv into an existing folder; ``better`` is empty where nothing is told."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = [field.name for field in fields(Improvement)]
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


def _finished(store: Store, rows: Sequence[RunRow], target: float) -> Finished:
    workload = store.workload()
    sentence, winner = _verdict(store)
    return Finished(
        folder=store.folder,
        workload=workload["name"],
        title=workload["title"],
        verdict=sentence,
        winner=winner,
        metric=workload["metric_name"],
        target=target,
        runs=len(rows),
        wall_seconds=_total(row.wall_seconds for row in rows),
        cpu_seconds=_total(row.cpu_seconds for row in rows),
    )


def _verdict(store: Store) -> tuple[str, str | None]:
    """Return a race's first sentence and winner from verdict.json, judged again if it has none."""
    try:
        told = json.loads((store.folder / "verdict.json").read_text(encoding="utf-8"))
        return told["sentences"][0], told["winner"]
    except (OSError, ValueError, LookupError, TypeError):
        verdict = judge(store)
        return verdict.sentences[0], verdict.winner


def _total(values: Iterable[float | None]) -> float | None:
    known = [math.nan if value is None else value for value in values]
    total = math.fsum(known)
    return None if math.isnan(total) else total
