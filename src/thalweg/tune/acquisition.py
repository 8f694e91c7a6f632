"""How much a point promises, by the mean and the standard deviation of what is believed there.

All are for minimisation, and larger is better. With ``z = (best - xi - mean) / deviation``:

* expected improvement ``E max(best - xi - f, 0) = (best - xi - mean) Phi(z) + deviation phi(z)``;
* probability of improvement ``P(f < best - xi) = Phi(z)``;
* the upper confidence bound of ``-f``: ``kappa deviation - mean``.
"""

from __future__ import annotations

import numpy as np
from scipy.special import log_ndtr, ndtr

_LOG_SQRT_2PI = 0.5 * np.log(2 * np.pi)


def expected_improvement(
    mean: np.ndarray, deviation: np.ndarray, best: float, xi: float = 0.0
) -> np.ndarray:
    """Return the expected improvement; at zero deviation ``max(best - xi - mean, 0)``."""
    gain = best - xi - np.asarray(mean, dtype=float)
    deviation = np.asarray(deviation, dtype=float)
    sure = deviation <= 0
    z = gain / np.where(sure, 1.0, deviation)
    density = np.exp(-0.5 * z * z - _LOG_SQRT_2PI)
    unsure = np.maximum(gain * ndtr(z) + deviation * density, 0.0)
    return np.where(sure, np.maximum(gain, 0.0), unsure)


def log_expected_improvement(
    mean: np.ndarray, deviation: np.ndarray, best: float, xi: float = 0.0
) -> np.ndarray:
    """Return the logarithm of the expected improvement, where that itself would be zero, too.

    Below ``z = -30`` by the leading terms of its expansion, ``phi(z) / z^2 (1 - 3 / z^2)``.
    """
    deviation = np.asarray(deviation, dtype=float)
    z = (best - xi - np.asarray(mean, dtype=float)) / deviation
    far = z < -30
    near = np.where(far, -1.0, z)
    density = np.exp(-0.5 * near * near - _LOG_SQRT_2PI)
    close = np.log(np.maximum(near * ndtr(near) + density, 1e-300))
    away = np.where(far, z, -30.0)
    tail = -0.5 * away * away - _LOG_SQRT_2PI - 2 * np.log(-away) + np.log1p(-3 / (away * away))
    return np.where(far, tail, close) + np.log(deviation)


def probability_of_improvement(
    mean: np.ndarray, deviation: np.ndarray, best: float, xi: float = 0.0
) -> np.ndarray:
    """Return the probability of improvement; at zero deviation 1 or 0."""
    gain = best - xi - np.asarray(mean, dtype=float)
    deviation = np.asarray(deviation, dtype=float)
    sure = deviation <= 0
    return np.where(sure, (gain > 0) * 1.0, ndtr(gain / np.where(sure, 1.0, deviation)))


def log_probability_of_improvement(
    mean: np.ndarray, deviation: np.ndarray, best: float, xi: float = 0.0
) -> np.ndarray:
    """Return the logarithm of the probability of improvement, for positive deviations."""
    return log_ndtr((best - xi - np.asarray(mean, dtype=float)) / deviation)


def upper_confidence_bound(
    mean: np.ndarray, deviation: np.ndarray, kappa: float = 1.96
) -> np.ndarray:
    """Return how good the point may be: ``kappa deviation - mean``."""
    return kappa * np.asarray(deviation, dtype=float) - np.asarray(mean, dtype=float)
