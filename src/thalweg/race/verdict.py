"""What a finished race says: ranking, pairs, a winner if there is one, and plain sentences."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from thalweg.race.store import Store

VERSION = 1


@dataclass(frozen=True)
class Standing:
    """How one entrant did.

    Attributes:
        entrant: its name.
        recipe: its recipe as entered.
        rank: 1 + the number of entrants that are separated from it and better; entrants of whose
            final runs none finished come after all others.
        tied_with: the entrants that it is not separated from.
        mean: mean final metric of the final runs that finished; None if none did.
        low: lower end of the 95 % percentile bootstrap interval over seeds; None under 2 runs.
        high: upper end.
        runs: final runs.
        finished: final runs that finished.
        diverged: final runs that diverged, or were not started because every trial had diverged.
        failed: final runs that failed.
        best_trial: the trial that the final runs repeat; None if no trial finished.
        hyper: its tuned values.
        edge: ``lower`` or ``upper`` if its learning rate lies in the outer tenth of the range.
        trials: tuning trials.
        trials_diverged: trials that diverged.
        trials_failed: trials that failed.
        trials_at_target: trials that met the target.
        median_trial: median final metric of the trials that finished, or None.
        steps_to_target: median over final runs, a miss counting as infinite; None if it is.
        seconds_to_target: likewise.
        at_target: final runs that met the target.
        seconds_per_step: median over final runs.
        peak_bytes: median over final runs.
        state_bytes: median over final runs.
        error: the first error message among its runs, or None.
    """

    entrant: str
    recipe: str
    rank: int
    tied_with: tuple[str, ...]
    mean: float | None
    low: float | None
    high: float | None
    runs: int
    finished: int
    diverged: int
    failed: int
    best_trial: int | None
    hyper: dict[str, Any]
    edge: str | None
    trials: int
    trials_diverged: int
    trials_failed: int
    trials_at_target: int
    median_trial: float | None
    steps_to_target: float | None
    seconds_to_target: float | None
    at_target: int
    seconds_per_step: float | None
    peak_bytes: float | None
    state_bytes: float | None
    error: str | None


@dataclass(frozen=True)
class Pair:
    """Two entrants compared, ``a`` the one that stands before ``b`` in the ranking.

    Attributes:
        a: an entrant.
        b: another one.
        difference: mean of ``a`` minus mean of ``b`` over finished final runs, or None.
        difference_low: lower end of its 95 % interval (of the t-test, not corrected for many
            pairs); None if a run diverged or there are fewer than 3 seeds.
        difference_high: upper end.
        probability: how probably a run of ``a`` is better than one of ``b``.
        low: lower end of its 95 % bootstrap interval.
        high: upper end.
        p_value: of the test in `thalweg.race.score.compare`.
        p_adjusted: corrected for many comparisons (`thalweg.race.score.separate`); None where a
            rule and no test decides, because one of the two finished no trial.
        p_sign_flip: of the exact sign-flip test, for information.
        separated: whether the data tell the two apart.
    """

    a: str
    b: str
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    probability: float
    low: float
    high: float
    p_value: float
    p_adjusted: float | None
    p_sign_flip: float
    separated: bool


@dataclass(frozen=True)
class Verdict:
    """The outcome of a race; `to_dict` is what `verdict.json` holds.

    Attributes:
        workload: its name.
        metric_name: the metric that ranks.
        higher_is_better: its direction.
        steps: steps of every run.
        seeds: final runs of every entrant.
        target: the value that counts as reached, or None.
        target_source: ``user``, ``workload``, ``baseline`` or ``none``.
        target_text: one sentence on how it was set.
        ranking: standings by rank, then mean.
        pairs: every pair once.
        winner: the entrant that beats every other one, or None.
        contention: why times cannot be compared, or None.
        sentences: all of this in words.
    """

    workload: str
    metric_name: str
    higher_is_better: bool
    steps: int
    seeds: int
    target: float | None
    target_source: str
    target_text: str
    ranking: tuple[Standing, ...]
    pairs: tuple[Pair, ...]
    winner: str | None
    contention: str | None
    sentences: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON-ready data."""
        content = dataclasses.asdict(self)
        metric = {
            "name": content.pop("metric_name"),
            "higher_is_better": content.pop("higher_is_better"),
            "measured": "after the last step, on the validation set",
        }
        return {"version": VERSION, "metric": metric, **content, "method": METHOD}


METHOD = (
    "Ranked by the mean over seeds of the final metric of each entrant's best trial. Intervals of "
    "means and of probabilities are 95 % percentile bootstraps over seeds; with fewer than about 10 "
    "seeds such intervals are too narrow, so they do not decide. Two entrants are separated if a "
    "t-test (the larger of the paired and the unpaired standard error, Welch's degrees of freedom) "
    "finds a difference and the interval of the probability of improvement excludes 0.5. The "
    "winner must beat every other entrant at the 5 % level; all other pairs are corrected by "
    "Holm's method, so that a race between equals names a difference in at most about 5 % of "
    "cases. A run that diverged or failed is worse than any that finished. An entrant without a "
    "finished trial is not run again and comes last by rule."
)


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
        _pair(i, j, names, means, comparisons, outcome.adjusted, separated, higher)
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
    order: Sequence[int], scores: Sequence[score.Scores], separated: set[tuple[int, int]]
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


def _median(values: Any) -> float | None:
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
    separated: set[tuple[int, int]],
    higher: bool,
) -> Pair:
    key = (min(i, j), max(i, j))
    one = comparisons[key]
    swapped = i > j
    a, b = means[i], means[j]
    difference = None if a is None or b is None else a - b
    margin = one.margin
    known = difference is not None and margin is not None
    return Pair(
        a=names[i],
        b=names[j],
        difference=difference,
        difference_low=difference - margin if known else None,
        difference_high=difference + margin if known else None,
        probability=1 - one.probability if swapped else one.probability,
        low=1 - one.high if swapped else one.low,
        high=1 - one.low if swapped else one.high,
        p_value=one.p_value,
        p_adjusted=adjusted.get(key),
        p_sign_flip=one.p_sign_flip,
        separated=key in separated,
    )
