"""The ruleset ``speedrun``: time to a target, and whether what wins on a small model still wins.

A race is run on each rung of a ladder of model sizes, each with its own tuning and its own target
(what tuned AdamW reaches there). On a rung, entrants are compared by the steps that each of their
final runs needs to the target, seed by seed; no run is stopped on reaching it, because a loss that
dips below the target by chance would then count.

A *record* needs more than one lucky run: at the first evaluation at which
``(target - mean) sqrt(n) / deviation`` of the n final runs exceeds Student's 99 % quantile, the
mean loss is below the target beyond doubt (or above, where higher is better).
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from scipy import special

from thalweg import train
from thalweg.core.errors import UsageError
from thalweg.core.files import check_folder, make_folder, write_atomically
from thalweg.race.config import RaceConfig
from thalweg.race.decisions import decide
from thalweg.race.run import run_race
from thalweg.race.runner import Fit, Tell
from thalweg.race.score import MINIMUM_SEEDS
from thalweg.race.sentences import listing, number
from thalweg.race.stages import planned_looks
from thalweg.race.store import Store

RECORD_LEVEL = 0.01
LADDERS: Mapping[str, Mapping[str, str]] = {"text": {"1x": "text", "4x": "text-4x"}}
"""By workload: its sizes in parameters, and the workloads of those sizes."""


@dataclass(frozen=True)
class Step:
    """An entrant on one rung.

    Attributes:
        rung: the model's size, such as ``4x``.
        entrant: its name.
        steps: median steps to the target over final runs, infinite where the target was missed.
        record: the first evaluation at which the target is reached beyond doubt, or None.
        speed_up: steps of the first entrant over its own; None where either missed.
        ahead_of: the entrants from which it is told apart and which need more steps.
    """

    rung: str
    entrant: str
    steps: float
    record: int | None
    speed_up: float | None
    ahead_of: tuple[str, ...]


@dataclass(frozen=True)
class Ladder:
    """All rungs of a ladder.

    Attributes:
        steps: by rung, then entrant.
        sentences: what they say.
    """

    steps: tuple[Step, ...]
    sentences: tuple[str, ...]


def ladder_of(workload: str) -> Mapping[str, str]:
    """Return the rungs of a workload: name of a size -> workload.

    Raises:
        UsageError: the workload has one size only.
    """
    if workload not in LADDERS:
        raise UsageError(
            f'"{workload}" has one size only, and a speedrun climbs a ladder of sizes; use '
            f"{listing(LADDERS)}"
        )
    return LADDERS[workload]


def run_ladder(
    config: RaceConfig,
    rungs: Mapping[str, str] | None = None,
    on_event: Tell | None = None,
    fit: Fit = train.fit,
) -> Ladder:
    """Race on each rung, in a folder of its own within the race's; write ``ladder.csv``.

    Args:
        config: of the race on every rung; its workload names the ladder.
        rungs: name of a size -> workload, the smallest first; by default `ladder_of`.
        on_event: as in `run_race`, for one rung after the other.
        fit: as in `run_race`.

    Raises:
        UsageError: as `run_race`, and if there is no ladder or fewer than two entrants.
    """
    rungs = ladder_of(config.workload) if rungs is None else rungs
    if len(config.entrants) < 2:
        raise UsageError("a speedrun compares entrants; name at least two, the reference first")
    out = Path(config.out)
    check_folder(out)
    for workload in rungs.values():
        dataclasses.replace(config, workload=workload).check()
    make_folder(out)
    steps: list[Step] = []
    for rung, workload in rungs.items():
        folder = out / rung
        run_race(dataclasses.replace(config, workload=workload, out=folder), on_event, fit)
        with Store.open(folder) as store:
            steps += climb(store, rung)
    ladder = Ladder(tuple(steps), tuple(_sentences(steps)))
    _write(ladder, out / "ladder.csv")
    return ladder


def climb(store: Store, rung: str) -> list[Step]:
    """Return how the entrants of a finished race did on a rung."""
    config, target = store.config(), (store.target() or {}).get("value")
    names = [one["name"] for one in config["entrants"]]
    finals = [store.runs("final", name) for name in names]
    times = [
        np.array([math.inf if r.steps_to_target is None else r.steps_to_target for r in rows])
        for rows in finals
    ]
    competing = [any(row.finished for row in store.runs("tune", name)) for name in names]
    found = decide([-one for one in times], competing, planned_looks(store), config["seed"])
    medians = [median(one.tolist()) for one in times]
    higher = store.workload()["higher_is_better"]
    result = []
    for i, name in enumerate(names):
        behind = []
        for j, other in enumerate(names):
            pair = (min(i, j), max(i, j))
            if j != i and pair in found.separated and found.order.index(i) < found.order.index(j):
                behind.append(other)
        curves = [store.curve(row.run_id) for row in finals[i]]
        grids = [{point.step: point.metric for point in curve} for curve in curves]
        both = math.isfinite(medians[i]) and math.isfinite(medians[0])
        result.append(
            Step(
                rung=rung,
                entrant=name,
                steps=medians[i],
                record=None if target is None else first_record(grids, target, higher),
                speed_up=medians[0] / medians[i] if both else None,
                ahead_of=tuple(behind),
            )
        )
    return result


def first_record(
    grids: Sequence[Mapping[int, float]], target: float, higher_is_better: bool
) -> int | None:
    """Return the first step at which runs reach a target beyond doubt, or None.

    Args:
        grids: for each run, its metric by step; steps that some run lacks are passed over.
        target: what to reach.
        higher_is_better: the metric's direction.
    """
    if len(grids) < MINIMUM_SEEDS:
        return None
    common = set.intersection(*(set(grid) for grid in grids))
    for step in sorted(common):
        if is_record([grid[step] for grid in grids], target, higher_is_better):
            return step
    return None


def is_record(values: Sequence[float], target: float, higher_is_better: bool) -> bool:
    """Return whether the mean of some runs is better than a target, by a one-sided t-test at 1 %.

    A published rule for a known deviation, ``(target - mean) sqrt(n) >= 0.004`` for 0.0013, is the
    same with the normal quantile of 0.1 % in place of Student's.
    """
    array = np.asarray(values, dtype=float)
    n = len(array)
    if n < MINIMUM_SEEDS or not np.isfinite(array).all():
        return False
    margin = (array.mean() - target) * (1 if higher_is_better else -1)
    limit = -special.stdtrit(n - 1, RECORD_LEVEL)
    return bool(margin > 0 and margin * math.sqrt(n) >= limit * array.std(ddof=1))


def _sentences(steps: Sequence[Step]) -> list[str]:
    rungs = list(dict.fromkeys(step.rung for step in steps))
    by = {(step.rung, step.entrant): step for step in steps}
    names = list(dict.fromkeys(step.entrant for step in steps))
    reference, small, large = names[0], rungs[0], rungs[-1]
    told = []
    for name in names[1:]:
        first, last = by[small, name], by[large, name]
        begin = f"{name} {_standing(first, by[small, reference])} at {small}"
        if small == large:
            told.append(f"{begin}.")
            continue
        ahead = reference in first.ahead_of, reference in last.ahead_of
        joint = "and still" if all(ahead) else "but" if any(ahead) else "and"
        told.append(f"{begin}, {joint} {_standing(last, by[large, reference])} at {large}.")
    return told


def _standing(step: Step, reference: Step) -> str:
    many = "" if step.speed_up is None else f" ({number(step.speed_up)} times as fast)"
    if reference.entrant in step.ahead_of:
        return f"is ahead of {reference.entrant}{many}"
    if step.entrant in reference.ahead_of:
        return f"is behind {reference.entrant}{many}"
    return f"is not told from {reference.entrant}{many}"


def _write(ladder: Ladder, path: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("rung", "entrant", "steps_to_target", "record", "speed_up", "ahead_of"))
    for one in ladder.steps:
        steps = one.steps if math.isfinite(one.steps) else ""
        cells = (one.rung, one.entrant, steps, one.record, one.speed_up, "; ".join(one.ahead_of))
        writer.writerow(["" if cell is None else cell for cell in cells])
    write_atomically(path, text.getvalue())
