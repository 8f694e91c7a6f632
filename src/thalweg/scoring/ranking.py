"""Rankings for reference: Borda's count and the mean rank."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def _beaten(times: ArrayLike) -> Array:
    """Return, by submission and workload, how many are slower; equals count as a half."""
    table = np.asarray(times, dtype=float)
    table = np.where(np.isnan(table), np.inf, table)
    slower = table[None, :, :] > table[:, None, :]
    equal = table[None, :, :] == table[:, None, :]
    return slower.sum(1) + (equal.sum(1) - 1) / 2


def mean_rank(times: ArrayLike) -> Array:
    """Return the mean over workloads of each submission's rank; equals share the mean of theirs.

    Args:
        times: shape (submissions, workloads), infinity or NaN for those that never got there.
    """
    beaten = _beaten(times)
    return (len(beaten) - beaten).mean(1)


def borda(times: ArrayLike) -> Array:
    """Return the sum over workloads of how many others each submission beats.

    Args:
        times: as for `mean_rank`.
    """
    return _beaten(times).sum(1)


def win_margins(times: ArrayLike) -> Array:
    """Return the share of workloads on which a row's submission is faster minus that it is slower.

    Shape (submissions, submissions), antisymmetric.

    Args:
        times: as for `mean_rank`.
    """
    table = np.asarray(times, dtype=float)
    table = np.where(np.isnan(table), np.inf, table)
    faster = table[:, None, :] < table[None, :, :]
    return (faster.astype(float) - faster.transpose(1, 0, 2)).mean(2)
