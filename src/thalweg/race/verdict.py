"""The verdict on a finished race: `judge`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence, Set
from itertools import combinations
from statistics import median
from typing import Any

import numpy as np

from thalweg.core.errors import UsageError
from thalweg.core.seeds import derive_seed
from thalweg.race import score
from thalweg.race.machine import contention
from thalweg.race.rows import RunRow, best_trial
from thalweg.race.search import edge
from thalweg.race.sentences import tell
from thalweg.race.standings import Pair, Standing, Verdict
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
        raise UsageError(
            f"the race in {store.folder} is not finished; run the same command again to continue it"
        )
    scores = [score.as_scores([row.final_metric for row in rows], higher) for rows in finals]
    scores = [
        np.where([row.finished for row in rows], values, -np.inf)
        for rows, values in zip(finals, scores, strict=True)
    ]
    order = _order(scores)
    running = [i for i in order if any(row.finished for row in trials[i])]
    rng = np.random.default_rng(derive_seed(config["seed"], "verdict"))
    resolution = score.resolution_of(scores)
    comparisons = {
        (i, j): score.compare(scores[i], scores[j], rng, resolution)
        for i, j in combinations(range(len(names)), 2)
    }
    tested = {pair: one for pair, one in comparisons.items() if set(pair) <= set(running)}
    outcome = score.separate(tested, running)
    # Who finished no trial is out, whatever the number of seeds.
    by_rule = {pair for pair in comparisons if (pair[0] in running) != (pair[1] in running)}
    separated = outcome.separated | by_rule
    winner = outcome.winner
    if len(running) == 1 and len(names) > 1 and np.isfinite(scores[running[0]]).all():
        winner = running[0]
    ranks = _ranks(order, scores, separated)
    order = sorted(order, key=lambda i: ranks[i])  # stable: by mean within a rank
    intervals = [_interval(rows, rng) for rows in finals]
    ranking = tuple(
        Standing(
            entrant=names[i],
            recipe=entrants[i]["recipe"],
            rank=ranks[i],
            tied_with=tuple(
                names[j] for j in order if j != i and (min(i, j), max(i, j)) not in separated
            ),
            **intervals[i],
            **_facts(trials[i], finals[i], higher),
        )
        for i in order
    )
    means = [interval["mean"] for interval in intervals]
    pairs = tuple(
        _pair(i, j, names, means, comparisons, outcome.adjusted, separated)
        for i, j in combinations(order, 2)
    )
    target = store.target() or {"value": None, "source": "none", "text": "No target was set."}
    verdict = Verdict(
        workload=workload["name"],
        metric_name=workload["metric_name"],
        higher_is_better=higher,
        steps=config["steps"],
        seeds=config["seeds"],
        target=target["value"],
        target_source=target["source"],
        target_text=target["text"],
        ranking=ranking,
        pairs=pairs,
        winner=None if winner is None else names[winner],
        contention=contention([row for rows in trials + finals for row in rows], store.machine()),
    )
    return dataclasses.replace(verdict, sentences=tuple(tell(verdict, config["trials"])))


def _order(scores: Sequence[score.Scores]) -> list[int]:
    # A run that diverged counts as the worst result that any final run of the race got.
    finite = np.concatenate([values[np.isfinite(values)] for values in scores])
    worst = float(finite.min()) if len(finite) else 0.0
    means = [
        float(np.where(np.isfinite(values), values, worst).mean())
        if np.isfinite(values).any()
        else -math.inf
        for values in scores
    ]
    return sorted(range(len(scores)), key=lambda i: -means[i])


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


def _facts(trials: Sequence[RunRow], finals: Sequence[RunRow], higher: bool) -> dict[str, Any]:
    best = best_trial(trials, higher)
    tuned = [float(row.final_metric or 0) for row in trials if row.finished]
    return {
        "runs": len(finals),
        "finished": sum(row.finished for row in finals),
        "diverged": sum(row.status != "failed" and not row.finished for row in finals),
        "failed": sum(row.status == "failed" for row in finals),
        "best_trial": best and best.trial,
        "hyper": best.hyper if best else {},
        "edge": edge(best.position) if best else None,
        "trials": len(trials),
        "trials_diverged": sum(row.status != "failed" and not row.finished for row in trials),
        "trials_failed": sum(row.status == "failed" for row in trials),
        "trials_at_target": sum(row.steps_to_target is not None for row in trials),
        "median_trial": median(tuned) if tuned else None,
        "steps_to_target": _median_time(finals, lambda row: row.steps_to_target),
        "seconds_to_target": _median_time(finals, lambda row: row.seconds_to_target),
        "at_target": sum(row.steps_to_target is not None for row in finals),
        "seconds_per_step": _median(row.seconds_per_step for row in finals),
        "peak_bytes": _median(row.peak_bytes for row in finals),
        "state_bytes": _median(row.state_bytes for row in finals),
        "error": next((row.error for row in (*trials, *finals) if row.error), None),
    }


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _median_time(rows: Sequence[RunRow], time: Callable[[RunRow], float | None]) -> float | None:
    times = [math.inf if (value := time(row)) is None else value for row in rows]
    middle = median(times)
    return middle if math.isfinite(middle) else None


def _pair(
    i: int,
    j: int,
    names: Sequence[str],
    means: Sequence[float | None],
    comparisons: dict[tuple[int, int], score.Comparison],
    adjusted: dict[tuple[int, int], float],
    separated: Set[tuple[int, int]],
) -> Pair:
    key = (min(i, j), max(i, j))
    one = comparisons[key]
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
        p_adjusted=adjusted.get(key),
        p_sign_flip=one.p_sign_flip,
        separated=key in separated,
    )
