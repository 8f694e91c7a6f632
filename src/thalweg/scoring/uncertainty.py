"""How much of a score is luck: the same scores over resampled studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thalweg.scoring.profile import grid_score, ratios, standing_times
from thalweg.scoring.suite import Suite
from thalweg.scoring.times import Times

Array = NDArray[np.float64]
LEVEL = 0.05


@dataclass(frozen=True)
class Uncertainty:
    """Percentile intervals of 95 % over resampled studies, each of shape (submissions,).

    Attributes:
        score_low: lower end of the score's interval.
        score_high: upper end.
        rank_low: best rank of the interval, 1 for first; equals share the better rank.
        rank_high: worst rank of the interval.
        first: share of the resamples in which nobody was better.
    """

    score_low: Array
    score_high: Array
    rank_low: Array
    rank_high: Array
    first: Array


def over_studies(
    studies: Sequence[Sequence[Times]],
    workloads: Sequence[str],
    suite: Suite,
    rng: np.random.Generator,
    resamples: int = 2000,
) -> Uncertainty:
    """Return what resampling studies does to AlgoPerf's scores and ranks.

    The studies of every submission on every workload are drawn anew, with replacement and
    independently of each other (a stratified bootstrap), and all is scored again.

    Args:
        studies: `study_times`, by submission and workload.
        workloads: names of the latter.
        suite: the benchmark.
        rng: draws the resamples.
        resamples: how many.
    """
    medians = np.full((resamples, len(studies), len(workloads)), np.nan)
    for i, row in enumerate(studies):
        for j, times in enumerate(row):
            n = len(times)
            if n:
                drawn = np.sort(times[rng.integers(n, size=(resamples, n))], axis=1)
                low, high = drawn[:, (n - 1) // 2], drawn[:, n // 2]
                medians[:, i, j] = np.where(low == high, low, (low + high) / 2)
    standing = standing_times(medians, workloads, suite.base, suite.variants)
    scores = grid_score(ratios(standing))
    ranks = ranked(scores)
    ends = [LEVEL / 2, 1 - LEVEL / 2]
    score_low, score_high = np.quantile(scores, ends, axis=0)
    rank_low, rank_high = np.quantile(ranks, ends, axis=0, method="nearest")
    return Uncertainty(score_low, score_high, rank_low, rank_high, (ranks == 1).mean(0))


def ranked(scores: Array) -> Array:
    """Return 1 + how many are better, along the last axis."""
    return 1.0 + (scores[..., None, :] > scores[..., :, None]).sum(-1)
