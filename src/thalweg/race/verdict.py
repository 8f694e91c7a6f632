"""The verdict on a finished race: `judge`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from itertools import combinations
from statistics import median
from typing import Any

import numpy as np

from thalweg.core.errors import UsageError
from thalweg.core.seeds import derive_seed
from thalweg.race import power, score
from thalweg.race.best_of import BestOf, sensitivity
from thalweg.race.decisions import Decision
from thalweg.race.entrants import Entrant
from thalweg.race.machine import contention
from thalweg.race.rows import RunRow, best_trial
from thalweg.race.search import QUASI_RANDOM, edge, looks_back
from thalweg.race.sentences import tell
from thalweg.race.sequential import LAST
from thalweg.race.stages import decision, final_batches, final_scores
from thalweg.race.standings import Pair, Power, Standing, Verdict
from thalweg.race.store import Store


def judge(store: Store) -> Verdict:
    """Return the verdict on a race, the same one every time.

    Raises:
        UsageError: final runs are missing.
    """
    config, workload = store.config(), store.workload()
    higher = workload["higher_is_better"]
    entrants = config["entrants"]
    names = [entrant["name"] for entrant in entrants]
    finals = [store.runs("final", name) for name in names]
    trials = [store.runs("tune", name) for name in names]
    if any(len(rows) < config["seeds"] for rows in finals):
        raise UsageError(_unfinished(store))
    scores = [final_scores(store, name) for name in names]
    decided = decision(store)
    if config.get("seeds_most"):
        _check_looks(store)
    order, separated, winner = decided.order, decided.separated, decided.winner
    rng = np.random.default_rng(derive_seed(config["seed"], "verdict"))
    ranks = _ranks(order, scores, separated)
    order = sorted(order, key=lambda i: ranks[i])  # stable: by mean within a rank
    intervals = [_interval(rows, rng) for rows in finals]
    worst = _worst(trials, higher)
    spaces = store.spaces()
    ranking = tuple(
        Standing(
            entrant=names[i],
            recipe=entrants[i]["recipe"],
            rank=ranks[i],
            tied_with=tuple(
                names[j] for j in order if j != i and (min(i, j), max(i, j)) not in separated
            ),
            **intervals[i],
            **_facts(trials[i], finals[i], higher, _widened(spaces.get(names[i], {}))),
            best_of=_best_of(trials[i], higher, worst, config),
        )
        for i in order
    )
    means = [interval["mean"] for interval in intervals]
    pairs = tuple(_pair(i, j, names, means, decided) for i, j in combinations(order, 2))
    target = store.target() or {"value": None, "source": "none", "text": "No target was set."}
    verdict = Verdict(
        workload=workload["name"],
        metric_name=workload["metric_name"],
        higher_is_better=higher,
        steps=config["steps"],
        seeds=max(len(rows) for rows in finals),
        ruleset=config.get("ruleset", "budget"),
        widened=tuple((store.widened() or {}).get("because", ())),
        power=_power(scores, decided, config),
        target=target["value"],
        target_source=target["source"],
        target_text=target["text"],
        ranking=ranking,
        pairs=pairs,
        winner=None if winner is None else names[winner],
        contention=contention([row for rows in trials + finals for row in rows], store.machine()),
    )
    return dataclasses.replace(verdict, sentences=tuple(tell(verdict, config["trials"])))


def _check_looks(store: Store) -> None:
    entrants = [Entrant(one["name"], one["recipe"]) for one in store.config()["entrants"]]
    known = {row.run_id for row in store.runs("final")}
    for batch in final_batches(store, entrants):
        if not known.issuperset(run.run_id for run in batch):
            raise UsageError(_unfinished(store))


def _unfinished(store: Store) -> str:
    return f"the race in {store.folder} is not finished; run the same command again to continue it"


def _power(
    scores: Sequence[score.Scores], decided: Decision, config: Mapping[str, Any]
) -> Power | None:
    """Return what the seeds can tell apart, from the noise of all entrants together."""
    running = [scores[i] for i in decided.running]
    deviation = power.pooled_deviation(running)
    if len(running) < 2 or deviation is None:
        return None
    seeds = max(map(len, running))
    most = config.get("seeds_most")
    # Of several looks the last one finds the most, at its share of the level.
    level = score.LEVEL * (LAST if most else 1.0)
    gap = power.separable_gap(deviation, seeds, level)
    if gap is None:
        return None
    best = abs(float(scores[decided.order[0]].mean())) if np.isfinite(running[0]).all() else 0.0
    tenth = power.power(0.1 * best, deviation, seeds, level) if best else None
    first, second = (float(one.mean()) for one in running[:2])
    seen = abs(first - second)
    needed = None
    if math.isfinite(seen) and seen > 0:
        needed = power.seeds_needed(seen, deviation, level)
    return Power(seeds, deviation, gap, tenth, needed)


def _widened(space: Mapping[str, Mapping[str, Any]]) -> float:
    return next((one["widened"] for one in space.values() if "widened" in one), 0.0)


def _worst(trials: Sequence[Sequence[RunRow]], higher: bool) -> float | None:
    values = [float(row.final_metric or 0) for rows in trials for row in rows if row.finished]
    return (min if higher else max)(values, default=None)


def _best_of(
    rows: Sequence[RunRow], higher: bool, worst: float | None, config: Mapping[str, Any]
) -> tuple[BestOf, ...]:
    # The estimate needs trials that are alike, and a result of each.
    alike = not looks_back(config.get("searcher", QUASI_RANDOM)) and not config.get("prune")
    if worst is None or len(rows) < 2 or not alike:
        return ()
    sign = 1.0 if higher else -1.0
    values = [sign * float((row.final_metric or 0) if row.finished else worst) for row in rows]
    seed = derive_seed(config["seed"], "best of", rows[0].entrant)
    rng = np.random.default_rng(seed)
    external = config.get("ruleset") == "external"
    return sensitivity(values, higher, rng, config["trials"] if external else None)


def _ranks(
    order: Sequence[int], scores: Sequence[score.Scores], separated: Set[tuple[int, int]]
) -> dict[int, int]:
    in_play = [i for i in order if np.isfinite(scores[i]).any()]
    ranks = {i: 1 + len(in_play) for i in order}
    for place, i in enumerate(in_play):
        better = (j for j in in_play[:place] if (min(i, j), max(i, j)) in separated)
        ranks[i] = 1 + sum(1 for _ in better)
    return ranks


def _interval(rows: Sequence[RunRow], rng: np.random.Generator) -> dict[str, float | None]:
    values = [float(row.final_metric or 0) for row in rows if row.finished]
    mean = math.fsum(values) / len(values) if values else None
    low, high = score.bootstrap_mean(values, rng) if len(values) > 1 else (None, None)
    return {"mean": mean, "low": low, "high": high}


def _facts(
    trials: Sequence[RunRow], finals: Sequence[RunRow], higher: bool, widened: float
) -> dict[str, Any]:
    best = best_trial(trials, higher)
    tuned = [float(row.final_metric or 0) for row in trials if row.finished]
    return {
        "runs": len(finals),
        "finished": sum(row.finished for row in finals),
        "diverged": sum(row.status != "failed" and not row.finished for row in finals),
        "failed": sum(row.status == "failed" for row in finals),
        "best_trial": best and best.trial,
        "hyper": best.hyper if best else {},
        "edge": edge(best.position, widened) if best else None,
        "trials": len(trials),
        "trials_diverged": sum(
            row.status not in ("failed", "pruned") and not row.finished for row in trials
        ),
        "trials_failed": sum(row.status == "failed" for row in trials),
        "trials_at_target": sum(row.steps_to_target is not None for row in trials),
        "median_trial": median(tuned) if tuned else None,
        "steps_to_target": _median_time(finals, lambda row: row.steps_to_target),
        "seconds_to_target": _median_time(finals, lambda row: row.seconds_to_target),
        "at_target": sum(row.steps_to_target is not None for row in finals),
        "seconds_per_step": _median(row.seconds_per_step for row in finals),
        "peak_bytes": _median(row.peak_bytes for row in finals),
        "state_bytes": _median(row.state_bytes for row in finals),
        "error": next(
            (row.error for row in (*trials, *finals) if row.error and row.status != "pruned"), None
        ),
    }


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _median_time(rows: Sequence[RunRow], time: Callable[[RunRow], float | None]) -> float | None:
    times = [math.inf if (value := time(row)) is None else value for row in rows]
    middle = median(times)
    return middle if math.isfinite(middle) else None


def _pair(
    i: int, j: int, names: Sequence[str], means: Sequence[float | None], decided: Decision
) -> Pair:
    key = (min(i, j), max(i, j))
    one = decided.comparisons[key]
    swapped = i > j
    a, b = means[i], means[j]
    difference = None if a is None or b is None else a - b
    low = high = None
    if difference is not None and one.margin is not None:
        low, high = difference - one.margin, difference + one.margin
    return Pair(
        a=names[i],
        b=names[j],
        difference=difference,
        difference_low=low,
        difference_high=high,
        probability=1 - one.probability if swapped else one.probability,
        low=1 - one.high if swapped else one.low,
        high=1 - one.low if swapped else one.high,
        p_value=one.p_value,
        p_adjusted=decided.adjusted.get(key),
        p_sign_flip=one.p_sign_flip,
        separated=key in decided.separated,
    )
