"""Comparing runs: bootstrap intervals, probability of improvement, and a test that keeps its word.

All functions take *scores*: arrays in which higher is better and ``-inf`` is a run that diverged
or failed, worse than any run that finished (`as_scores`).

Why not the bootstrap alone: with 3 seeds a percentile interval covers its mean in about three of
four cases, and with six entrants there are 15 pairs, so "the intervals do not overlap" crowns a
winner in many races between equals. Separation is therefore decided by a t-test with few-sample
quantiles (`compare`), and by rules for many comparisons (`thalweg.race.decisions`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

RESAMPLES = 20_000
LEVEL = 0.05
MINIMUM_SEEDS = 3
"""Fewer seeds cannot separate anything."""

Scores = NDArray[np.float64]


def as_scores(metrics: Sequence[float | None], higher_is_better: bool) -> Scores:
    """Return metrics as scores: negated if lower is better, ``-inf`` for None, NaN and inf."""
    values = np.array([math.nan if value is None else value for value in metrics], dtype=float)
    signed = values if higher_is_better else -values
    return np.where(np.isfinite(values), signed, -np.inf)


def bootstrap_mean(
    values: ArrayLike, rng: np.random.Generator, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of a mean.

    ``mean(values[i_1], ..., values[i_n])`` over resamples with replacement, between its 2.5 % and
    97.5 % quantiles.

    Args:
        values: finite values of n runs.
        rng: draws the resamples.
        resamples: how many.
    """
    array = np.asarray(values, dtype=float)
    means = array[rng.integers(len(array), size=(resamples, len(array)))].mean(axis=1)
    low, high = np.quantile(means, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def probability_of_improvement(x: ArrayLike, y: ArrayLike) -> float:
    """Return how probably a run of ``x`` beats a run of ``y``.

    ``P(x > y) + P(x = y) / 2`` over all pairs of runs, averaged over tasks (Agarwal et al. 2021,
    arXiv 2108.13264).

    Args:
        x: scores, shape (runs,) or (runs, tasks).
        y: scores, same number of tasks, any number of runs.
    """
    return float(np.mean([wins.mean() for wins in _wins(x, y)]))


def probability_interval(
    x: ArrayLike, y: ArrayLike, rng: np.random.Generator, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Return the 95 % stratified bootstrap interval of `probability_of_improvement`.

    Runs of ``x`` and of ``y`` are resampled independently of each other and for every task.
    """
    tables = _wins(x, y)
    total = sum(_resampled(wins, rng, resamples) for wins in tables)
    low, high = np.quantile(total / len(tables), [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def resampled_wins(
    x: ArrayLike, y: ArrayLike, rng: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    """Return `probability_of_improvement` on one task over resamples of its runs."""
    (wins,) = _wins(x, y)
    return _resampled(wins, rng, resamples)


def _resampled(
    wins: NDArray[np.float64], rng: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    rows, columns = wins.shape
    # How often each run was drawn gives the same distribution as drawing runs.
    left = rng.multinomial(rows, np.full(rows, 1 / rows), size=resamples) / rows
    right = rng.multinomial(columns, np.full(columns, 1 / columns), size=resamples) / columns
    return ((left @ wins) * right).sum(axis=1)


@dataclass(frozen=True)
class Comparison:
    """Two entrants' runs, compared.

    Attributes:
        probability: `probability_of_improvement` of the first over the second.
        low: lower end of its 95 % bootstrap interval.
        high: upper end.
        direction: 1 if the first is better on average, -1 if worse, 0 if equal.
        p_value: two-sided, of the t-test described in `compare`; 1 with fewer than 3 seeds.
        p_sign_flip: two-sided, of the exact sign-flip test on paired differences; for
            information (it cannot be below ``2 / 2**n``: 0.25 with 3 seeds, 0.063 with 5).
        margin: half-width of the 95 % interval of the difference of means, from the same t-test;
            None if a run diverged or there are fewer than 3 seeds.
    """

    probability: float
    low: float
    high: float
    direction: int
    p_value: float
    p_sign_flip: float
    margin: float | None

    @property
    def supported(self) -> bool:
        """Return whether the interval of the probability excludes 1/2 on the better one's side."""
        return self.low > 0.5 if self.direction > 0 else self.high < 0.5


def compare(
    x: Scores,
    y: Scores,
    rng: np.random.Generator,
    resolution: float = 0.0,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare two entrants' final runs over the same n seeds.

    The test is ``t = (mean x - mean y) / se`` with Welch's degrees of freedom, where ``se`` is the
    larger of the unpaired ``sqrt(var x / n + var y / n)`` and the paired ``sqrt(var(x - y) / n)``.
    Unpaired alone would be wrong if what is a good seed for one is a bad one for the other; paired
    alone throws away half of the degrees of freedom, which 3 to 5 seeds cannot spare. Seeds that
    are good for both make the test careful, never careless.

    A variance is at least that of rounding, ``resolution ** 2 / 12``, and of single precision, so
    that a handful of equal accuracies on a small validation set is not mistaken for certainty.

    A run that diverged counts as the worst finished run of the two entrants. If all runs of one
    diverged and none of the other, ``p = 2 / 4**n``, the most that equal entrants that diverge
    with any probability could reach.

    Args:
        x: scores of n runs.
        y: scores of n runs, same seeds in the same order.
        rng: draws the bootstrap's resamples.
        resolution: the step in which the metric changes, if it is coarse (`resolution_of`).
        resamples: bootstrap resamples for the interval of the probability.
    """
    low, high = probability_interval(x, y, rng, resamples)
    p_value, direction, margin = t_test(x, y, resolution)
    a, b = _substituted(x, y)
    return Comparison(
        probability=probability_of_improvement(x, y),
        low=low,
        high=high,
        direction=direction,
        p_value=p_value,
        p_sign_flip=sign_flip(a - b, rng),
        margin=margin,
    )


def t_test(x: Scores, y: Scores, resolution: float = 0.0) -> tuple[float, int, float | None]:
    """Return p-value, direction and margin of the test that `compare` describes."""
    a, b = _substituted(x, y)
    n = len(a)
    difference = float(a.mean() - b.mean())
    margin = None
    if n < MINIMUM_SEEDS:
        p_value = 1.0
    elif _all_against_none(x, y):
        p_value = 2.0 / 4**n
        difference = 1.0 if np.isfinite(x).all() else -1.0
    else:
        floor = max(resolution, 1e-6 * float(np.abs([a, b]).max())) ** 2 / 12
        variances = np.maximum([a.var(ddof=1), b.var(ddof=1)], floor) / n
        variance = max(float(variances.sum()), float((a - b).var(ddof=1)) / n)
        if variance == 0.0:  # every score of both is exactly 0
            p_value = 1.0
        else:
            freedom = variances.sum() ** 2 / (variances**2).sum() * (n - 1)
            p_value = float(2 * special.stdtr(freedom, -abs(difference) / math.sqrt(variance)))
            if np.isfinite(x).all() and np.isfinite(y).all():
                margin = float(-special.stdtrit(freedom, LEVEL / 2) * math.sqrt(variance))
    return p_value, int(np.sign(difference)), margin


def sign_flip(differences: Scores, rng: np.random.Generator) -> float:
    """Return the two-sided p-value of the sign-flip test that paired differences centre on 0.

    The share of sign patterns whose ``|sum|`` is at least the one seen: of all ``2**n`` patterns
    up to n = 14, of `RESAMPLES` random ones beyond.
    """
    n = len(differences)
    if n <= 14:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        signs = np.vstack([np.ones((1, n)), rng.choice([-1, 1], size=(RESAMPLES, n))])
    sums = np.abs(signs @ differences)
    seen = abs(float(differences.sum()))
    return float(np.mean(sums >= seen * (1 - 1e-12)))


def resolution_of(scores: Sequence[Scores]) -> float:
    """Return the smallest difference between two distinct finite scores, 0 if there is none."""
    finite = np.unique(np.concatenate([*scores, np.empty(0)]))
    gaps = np.diff(finite[np.isfinite(finite)])
    return float(gaps.min()) if len(gaps) else 0.0


def _wins(x: ArrayLike, y: ArrayLike) -> list[Scores]:
    left, right = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    left, right = left.reshape(len(left), -1), right.reshape(len(right), -1)
    if left.shape[1] != right.shape[1]:
        raise ValueError(f"need equal numbers of tasks, found {left.shape[1]} and {right.shape[1]}")
    a, b = left.T[:, :, None], right.T[:, None, :]
    return list((a > b) + 0.5 * (a == b))


def _substituted(x: Scores, y: Scores) -> tuple[Scores, Scores]:
    both = np.concatenate([x, y])
    finite = both[np.isfinite(both)]
    worst = finite.min() if len(finite) else 0.0
    return np.where(np.isfinite(x), x, worst), np.where(np.isfinite(y), y, worst)


def _all_against_none(x: Scores, y: Scores) -> bool:
    a, b = np.isfinite(x), np.isfinite(y)
    return bool((a.all() and not b.any()) or (b.all() and not a.any()))
