"""AlgoPerf's scores: who is how much slower than the fastest, on how many workloads.

All functions take times of shape (..., submissions, workloads) and work on stacks of tables as on
one, so that resampled tables are scored at once. Infinity is a target not met, NaN no run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

CUT_OFF = 4.0
GRID = 100
"""Points of AlgoPerf's grid of ratios from 1 to the cut-off."""

Array = NDArray[np.float64]


def standing_times(
    times: ArrayLike,
    workloads: Sequence[str],
    base: Sequence[str],
    variants: Mapping[str, str],
    cut_off: float = CUT_OFF,
) -> Array:
    """Return the times on the base workloads after the rules on misses and held-out variants.

    In AlgoPerf's order: (1) who missed a base workload misses its variant; (2) a time above
    ``cut_off`` times the best of its column is a miss; (3) who missed a variant, or has no run on
    it, misses its base workload.

    Args:
        times: shape (..., submissions, workloads).
        workloads: names of the columns.
        base: the columns that are returned, in this order.
        variants: the base workload of each held-out variant.
        cut_off: of rule 2.
    """
    table = np.array(times, dtype=float)
    place = {name: index for index, name in enumerate(workloads)}
    for variant, of in variants.items():
        missed = ~np.isfinite(table[..., place[of]])
        table[..., place[variant]] = np.where(missed, np.inf, table[..., place[variant]])
    table = np.where(table > cut_off * _best(table), np.inf, table)
    for variant, of in variants.items():
        missed = ~np.isfinite(table[..., place[variant]])
        table[..., place[of]] = np.where(missed, np.inf, table[..., place[of]])
    return table[..., [place[name] for name in base]]


def ratios(times: ArrayLike) -> Array:
    """Return each time over the least of its workload; infinity where nothing was met."""
    table = np.asarray(times, dtype=float)
    solved = np.isfinite(table)
    with np.errstate(invalid="ignore"):
        found = table / np.where(solved.any(-2, keepdims=True), _best(table), 1.0)
    return np.where(solved, found, np.inf)


def performance_profile(relative: ArrayLike, taus: ArrayLike) -> Array:
    """Return ``rho_s(tau)``, the share of workloads with a ratio of at most tau.

    Args:
        relative: `ratios`, shape (..., submissions, workloads).
        taus: shape (n,).

    Returns:
        Shape (..., submissions, n).
    """
    table, points = np.asarray(relative, dtype=float), np.asarray(taus, dtype=float)
    return (table[..., None] <= points).mean(-2)


def grid_score(relative: ArrayLike, points: int = GRID, cut_off: float = CUT_OFF) -> Array:
    """Return AlgoPerf's score: the profile's integral from 1 to the cut-off, over its length.

    By the trapezoid rule on equally spaced points, which is a constant for each workload: the part
    of the range that lies behind the first point at or past its ratio, plus half an interval.

    Returns:
        Shape (..., submissions); 1 for who is fastest on all workloads.
    """
    grid = np.linspace(1.0, cut_off, points)
    first = np.searchsorted(grid, np.asarray(relative, dtype=float), side="left")
    behind = (points - 1 - first + np.where(first == 0, 0.0, 0.5)) / (points - 1)
    return np.where(first < points, behind, 0.0).mean(-1)


def exact_score(relative: ArrayLike, cut_off: float = CUT_OFF) -> Array:
    """Return the same integral without a grid: the mean of ``max(0, (c - r) / (c - 1))``."""
    table = np.asarray(relative, dtype=float)
    return np.clip((cut_off - table) / (cut_off - 1), 0.0, None).mean(-1)


def speed_up(times: ArrayLike, reference: ArrayLike, budgets: ArrayLike) -> float:
    """Return the geometric mean over workloads of a submission's time over a reference's.

    A miss counts as the workload's budget and one second. Published as 1 minus this.

    Args:
        times: of the submission on the base workloads, shape (workloads,).
        reference: of the reference, likewise.
        budgets: allowed seconds of a run, likewise; NaN where they are unknown.
    """
    allowed = np.asarray(budgets, dtype=float) + 1
    tables = (np.asarray(x, dtype=float) for x in (times, reference))
    own, other = (np.where(np.isposinf(x), allowed, x) for x in tables)
    return math.exp(float(np.mean(np.log(own) - np.log(other))))


def _best(table: Array) -> Array:
    """Return the least of each column, infinity where there is none."""
    return np.where(np.isnan(table), np.inf, table).min(-2, keepdims=True)
