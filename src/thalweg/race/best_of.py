"""How much an entrant's result depends on how many trials it gets.

The expected best of k trials is estimated from n >= k trials by the mean over all subsets of k of
the best in the subset,

``sum over i of C(i - 1, k - 1) / C(n, k) x_(i)``, with x_(1) <= ... <= x_(n) and higher better,

which is exact and unbiased (a U-statistic; Hoeffding 1948). The more common estimate that draws
with replacement (Dodge et al. 2019, arXiv 1909.03004) is too low (Tang et al. 2020, arXiv
2004.13705).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thalweg.race.score import LEVEL

RESAMPLES = 2000


@dataclass(frozen=True)
class BestOf:
    """The expected best of some trials.

    Attributes:
        trials: how many, k.
        value: the estimate, a value of the metric.
        low: lower end of its 95 % percentile bootstrap interval over trials; None for k = n, of
            which there is one sample only.
        high: upper end.
    """

    trials: int
    value: float
    low: float | None
    high: float | None


def shares(n: int, k: int) -> NDArray[np.float64]:
    """Return the probability that the best of k of n is the i-th from below, for i = 1 ... n."""
    if not 1 <= k <= n:
        raise ValueError(f"k must lie between 1 and n = {n}, found {k}")
    return np.array([math.comb(i - 1, k - 1) / math.comb(n, k) for i in range(1, n + 1)])


def expected_best(values: ArrayLike, k: int) -> NDArray[np.float64]:
    """Return the expected best of k, the highest, along the last axis of values."""
    ordered = np.sort(np.asarray(values, dtype=float), axis=-1)
    return ordered @ shares(ordered.shape[-1], k)


def sensitivity(
    scores: Sequence[float],
    higher_is_better: bool,
    rng: np.random.Generator,
    most: int | None = None,
) -> tuple[BestOf, ...]:
    """Return the expected best of 1, 2, 4, ... and all trials.

    Args:
        scores: of the trials, higher is better; one that diverged has the worst score that anybody
            got, not infinity.
        higher_is_better: the metric's direction, in which values are returned.
        rng: draws the resamples.
        most: what counts as all trials, where there are more of them, from several studies.
    """
    array = np.asarray(scores, dtype=float)
    n = len(array)
    most = min(most or n, n)
    sign = 1.0 if higher_is_better else -1.0
    counts = sorted({*(2**power for power in range(n) if 2**power < most), most} - {0})
    drawn = array[rng.integers(n, size=(RESAMPLES, n))] if n > 1 else np.empty((0, n))
    found = []
    for k in counts:
        low = high = None
        if k < n:
            ends = np.quantile(expected_best(drawn, k), [LEVEL / 2, 1 - LEVEL / 2])
            low, high = sorted(sign * float(end) for end in ends)
        found.append(BestOf(k, sign * float(expected_best(array, k)), low, high))
    return tuple(found)
