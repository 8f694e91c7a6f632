"""Who beats whom over several workloads: probabilities, intervals and decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy import special

from thalweg.core.seeds import derive_seed
from thalweg.race.decisions import discovery_rates
from thalweg.race.score import LEVEL, Scores, probability_of_improvement, resampled_wins

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
        wins: pairs of runs of the same seed that ``a`` won, of those that the test takes.
        losses: those that ``b`` won.
        p_value: of `sign_test`, two-sided.
        p_adjusted: the false-discovery rate at which the pair would be told apart among all pairs
            (`improvements`).
        better: the entrant that beats the other one on these workloads, at a false-discovery rate
            below 5 %; None if the data do not tell the two apart.
    """

    a: str
    b: str
    workloads: int
    probability: float
    low: float
    high: float
    wide_low: float
    wide_high: float
    wins: int
    losses: int
    p_value: float
    p_adjusted: float
    better: str | None


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


def sign_test(x: Sequence[Scores], y: Sequence[Scores]) -> tuple[float, int, int]:
    """Test whether the two win equally often over these tasks, run against run of the same seed.

    Of n pairs on each task, w are won and l lost by ``x``; equal ones are left out. Then
    ``p = min(1, 2 P(B >= max(w, l)))`` with ``B ~ Binomial(w + l, 1/2)``.

    Pairs are independent, given the settings that tuning chose. The p-value is exact if a win is
    a coin toss on every task. Where one entrant is better on some tasks and the other on others,
    so that chances are 1/2 only on average, the number of wins varies less than the binomial
    (Hoeffding 1956, Annals of Mathematical Statistics 27, 713), and the test is careful. That
    needs equal n on all tasks. Swapping runs at random instead (a permutation test) would also
    need equal spreads of the two entrants, which the question does not, and a t-test would need
    metrics that can be averaged over tasks.

    Args:
        x: scores of the runs of one entrant by seed, for each task.
        y: likewise, of the other entrant; the seeds that both have on all tasks are paired.

    Returns:
        The two-sided p-value, w and l.
    """
    n = min(len(one) for one in (*x, *y))
    wins = sum(int((a[:n] > b[:n]).sum()) for a, b in zip(x, y, strict=True))
    losses = sum(int((a[:n] < b[:n]).sum()) for a, b in zip(x, y, strict=True))
    most = max(wins, losses)
    # P(B >= k) of B ~ Binomial(m, 1/2) is the regularised incomplete beta I_{1/2}(k, m - k + 1).
    tail = float(special.betainc(most, wins + losses - most + 1, 0.5)) if most else 1.0
    return min(1.0, 2 * tail), wins, losses


def improvements(
    scores: Mapping[str, Mapping[str, Scores]],
    planned: Mapping[str, int],
    resamples: int = RESAMPLES,
) -> list[Improvement]:
    """Compare every pair of entrants that share a workload, and decide which are told apart.

    Among the pairs that are told apart the false-discovery rate is at most 5 %, by the procedure
    of Benjamini and Yekutieli on the p-values of `sign_test` (`thalweg.race.decisions`); among
    equals that bounds the chance of any decision. The interval of the probability must lie on the
    same side of 1/2 as well; a pair of which it does not takes part with a p-value of 1.

    Args:
        scores: of the final runs by seed, by workload and entrant.
        planned: by workload, the seeds that were planned for everyone. The test takes no more: a
            race that adds seeds while somebody is tied stops at what it likes to see.
        resamples: of the bootstrap.
    """
    names = list(dict.fromkeys(name for by_name in scores.values() for name in by_name))
    found: dict[tuple[int, int], dict[str, Any]] = {}
    tested: dict[tuple[int, int], float] = {}
    for i, j in combinations(range(len(names)), 2):
        a, b = names[i], names[j]
        both = [name for name, one in scores.items() if a in one and b in one]
        if not both:
            continue
        x, y = ([scores[name][who] for name in both] for who in (a, b))
        rng = np.random.default_rng(derive_seed(0, "improvement", a, b))
        value, (low, high), (wide_low, wide_high) = improvement(x, y, rng, resamples)
        sure = [
            [one[: planned[name]] for name, one in zip(both, each, strict=True)] for each in (x, y)
        ]
        p_value, wins, losses = sign_test(*sure)
        supported = low > 0.5 if wins > losses else high < 0.5
        tested[i, j] = p_value if supported else 1.0
        found[i, j] = {
            "a": a,
            "b": b,
            "workloads": len(both),
            "probability": value,
            "low": low,
            "high": high,
            "wide_low": wide_low,
            "wide_high": wide_high,
            "wins": wins,
            "losses": losses,
            "p_value": p_value,
        }
    rates = discovery_rates(tested)
    return [_decided(one, rates[pair]) for pair, one in found.items()]


def _decided(found: dict[str, Any], rate: float) -> Improvement:
    better = None
    if rate < LEVEL:
        better = found["a"] if found["wins"] > found["losses"] else found["b"]
    return Improvement(**found, p_adjusted=rate, better=better)
