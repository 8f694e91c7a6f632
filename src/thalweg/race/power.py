"""What a number of seeds can tell apart.

The test of `thalweg.race.score.compare` on two entrants of n seeds each, with one standard
deviation, is Student's with ``2 (n - 1)`` degrees of freedom, and for a true gap ``d`` its
statistic is non-central with ``d sqrt(n / 2) / deviation``. The test is a little more careful than
that (it takes the larger of two standard errors), so real power is a little lower.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import optimize, special

from thalweg.race.score import LEVEL, MINIMUM_SEEDS, Scores

POWER = 0.8
MOST = 1000
QUANTILES = 2000


def power(gap: float, deviation: float, seeds: int, level: float = LEVEL) -> float:
    """Return how probably a two-sided test at a level finds a gap between two means.

    Args:
        gap: the true difference of means, of either sign.
        deviation: the standard deviation of a run, positive.
        seeds: runs of each of the two.
        level: of the test.
    """
    if seeds < MINIMUM_SEEDS:
        return 0.0
    freedom = 2 * (seeds - 1)
    limit = -float(special.stdtrit(freedom, level / 2))
    shift = abs(gap) / deviation * math.sqrt(seeds / 2)
    # The mean over the chi distribution of the estimated deviation, at its quantiles. SciPy's
    # non-central t gives NaN or wrong values for some large shifts.
    quantiles = (np.arange(QUANTILES) + 0.5) / QUANTILES
    estimated = np.sqrt(2 * special.gammaincinv(freedom / 2, quantiles) / freedom)
    found = special.ndtr(shift - limit * estimated) + special.ndtr(-shift - limit * estimated)
    return float(found.mean())


def separable_gap(
    deviation: float, seeds: int, level: float = LEVEL, wanted: float = POWER
) -> float | None:
    """Return the smallest gap that seeds find with the wanted probability, None under 3 seeds."""
    if seeds < MINIMUM_SEEDS:
        return None
    # In standard deviations: at 3 seeds and a level of 1 % it is about 7.
    root = optimize.brentq(lambda d: power(d, 1.0, seeds, level) - wanted, 1e-6, 1e3)
    return float(root) * deviation  # type: ignore[arg-type]


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
