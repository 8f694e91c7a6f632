"""What a number of seeds can tell apart.

The decision on a pair of entrants is simulated with normal noise of one standard deviation: the
t-test of `thalweg.race.score.compare`, which takes the larger of two standard errors and so finds
less than Student's, and up to 20 seeds the interval of the probability of improvement. That costs
as much power with 3 seeds and a few hundredths with 20, by which power is told too high beyond.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from thalweg.race.score import LEVEL, MINIMUM_SEEDS, Scores

POWER = 0.8
MOST = 1000
FEW = 20
RACES = 1000
RESAMPLES = 300


def power(gap: float, deviation: float, seeds: int, level: float = LEVEL) -> float:
    """Return how probably a gap between the means of two entrants is found.

    Args:
        gap: the true difference of means, of either sign.
        deviation: the standard deviation of a run, positive.
        seeds: runs of each of the two.
        level: of the two-sided test.
    """
    if seeds < MINIMUM_SEEDS:
        return 0.0
    shift = abs(gap) / deviation
    # The same noise for every shift, so that power grows with it.
    draw = np.random.default_rng(seeds)
    a, b = draw.normal(size=(2, RACES, seeds))
    a = a + shift
    difference = a.mean(1) - b.mean(1)
    variances = np.stack([a.var(1, ddof=1), b.var(1, ddof=1)]) / seeds
    variance = np.maximum(variances.sum(0), (a - b).var(1, ddof=1) / seeds)
    freedom = variances.sum(0) ** 2 / (variances**2).sum(0) * (seeds - 1)
    p_values = 2 * special.stdtr(freedom, -np.abs(difference) / np.sqrt(variance))
    found = p_values < level
    if seeds <= FEW:
        found &= _supported(a, b, difference, draw)
    return float(found.mean())


def _supported(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    difference: NDArray[np.float64],
    draw: np.random.Generator,
) -> NDArray[np.bool_]:
    """Return in which races the interval of the probability of improvement excludes 1/2."""
    seeds = a.shape[1]
    wins = (a[:, :, None] > b[:, None, :]).astype(float)
    shares = np.full(seeds, 1 / seeds)
    left, right = draw.multinomial(seeds, shares, size=(2, RESAMPLES)) / seeds
    chances = ((left @ wins) * right).sum(-1)
    low, high = np.quantile(chances, [LEVEL / 2, 1 - LEVEL / 2], axis=1)
    return np.where(difference > 0, low > 0.5, high < 0.5)


def separable_gap(
    deviation: float, seeds: int, level: float = LEVEL, wanted: float = POWER
) -> float | None:
    """Return the smallest gap that seeds find with the wanted probability, None under 3 seeds."""
    if seeds < MINIMUM_SEEDS:
        return None
    return _gap(seeds, level, wanted) * deviation


@lru_cache
def _gap(seeds: int, level: float, wanted: float) -> float:
    low, high = 0.0, 32.0  # in standard deviations
    while high - low > 0.005 * high:
        middle = (low + high) / 2
        if power(middle, 1.0, seeds, level) >= wanted:
            high = middle
        else:
            low = middle
    return high


def seeds_needed(
    gap: float, deviation: float, level: float = LEVEL, wanted: float = POWER
) -> int | None:
    """Return the fewest seeds that find a gap with the wanted probability, None beyond 1,000."""
    low, high = MINIMUM_SEEDS, MOST
    if power(gap, deviation, high, level) < wanted:
        return None
    while low < high:
        middle = (low + high) // 2
        if power(gap, deviation, middle, level) >= wanted:
            high = middle
        else:
            low = middle + 1
    return low


def pooled_deviation(scores: Sequence[Scores]) -> float | None:
    """Return the standard deviation of a run about its entrant's mean, None if nothing varies.

    ``sqrt(sum of squares / sum of (n - 1))`` over the entrants of which all runs finished.
    """
    known = [values for values in scores if len(values) > 1 and np.isfinite(values).all()]
    freedom = sum(len(values) - 1 for values in known)
    if freedom == 0:
        return None
    squares = math.fsum(float(((values - values.mean()) ** 2).sum()) for values in known)
    return math.sqrt(squares / freedom) or None
