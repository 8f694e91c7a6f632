"""Gaussian-process regression with a Matern 5/2 kernel, one length scale a feature."""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

_SQRT5 = math.sqrt(5)
_JITTER = 1e-9
# Priors of the logarithms, mean and standard deviation: they decide while data are few.
_SCALE, _SIGNAL, _NOISE = (math.log(0.5), 1.0), (0.0, 0.7), (math.log(1e-3), 1.5)
_BOUNDS = ((-4.0, 4.0), (-4.0, 4.0), (math.log(1e-7), 0.0))


class GaussianProcess:
    r"""A posterior over functions, given values that may carry noise.

    .. math::

        k(x, x') = s^2 (1 + \sqrt5 r + \tfrac53 r^2) e^{-\sqrt5 r}, \quad
        r^2 = \sum_j (x_j - x'_j)^2 / l_j^2

    Values are standardised; the logarithms of the length scales, of the signal's and of the
    noise's variance are those of largest posterior probability under normal priors.

    Args:
        x: features (n, d).
        y: values (n,), finite.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x = np.asarray(x, dtype=float)
        self.shift = float(np.mean(y))
        self.unit = float(np.std(y)) or 1.0
        self._y = (np.asarray(y, dtype=float) - self.shift) / self.unit
        self._gaps = (self.x[:, None, :] - self.x[None, :, :]) ** 2
        d = self.x.shape[1]
        start = np.array([_SCALE[0]] * d + [_SIGNAL[0], _NOISE[0]])
        bounds = [_BOUNDS[0]] * d + [_BOUNDS[1], _BOUNDS[2]]
        found = minimize(
            self._negative_log_posterior, start, jac=True, method="L-BFGS-B", bounds=bounds
        )
        theta = found.x if np.all(np.isfinite(found.x)) else start
        self.scales, self.signal, self.noise = np.exp(theta[:d]), *np.exp(theta[d:])
        covariance = self._kernel(self._gaps) + (self.noise + _JITTER) * np.eye(len(self._y))
        self._root = cholesky(covariance, lower=True)
        self._alpha = cho_solve((self._root, True), self._y)

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation (m,) of the function at points (m, d)."""
        gaps = (np.asarray(x, dtype=float)[:, None, :] - self.x[None, :, :]) ** 2
        cross = self._kernel(gaps)
        mean = cross @ self._alpha
        half = solve_triangular(self._root, cross.T, lower=True)
        variance = np.maximum(self.signal - np.sum(half**2, axis=0), 1e-12)
        return self.shift + self.unit * mean, self.unit * np.sqrt(variance)

    def _kernel(self, gaps: np.ndarray) -> np.ndarray:
        r = _SQRT5 * np.sqrt(gaps @ (1 / self.scales**2))
        return self.signal * (1 + r + r * r / 3) * np.exp(-r)

    def _negative_log_posterior(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Return it and its gradient, at log length scales, log signal and log noise."""
        d, n = self.x.shape[1], len(self._y)
        scales, signal, noise = np.exp(theta[:d]), *np.exp(theta[d:])
        r = _SQRT5 * np.sqrt(self._gaps @ (1 / scales**2))
        decay = np.exp(-r)
        kernel = signal * (1 + r + r * r / 3) * decay
        factor = cho_factor(kernel + (noise + _JITTER) * np.eye(n), lower=True)
        alpha = cho_solve(factor, self._y)
        means = np.array([_SCALE[0]] * d + [_SIGNAL[0], _NOISE[0]])
        widths = np.array([_SCALE[1]] * d + [_SIGNAL[1], _NOISE[1]])
        value = 0.5 * self._y @ alpha + np.sum(np.log(np.diag(factor[0])))
        value += 0.5 * np.sum(((theta - means) / widths) ** 2)
        # d value / d K = (K^-1 - alpha alpha^T) / 2
        outer = 0.5 * (cho_solve(factor, np.eye(n)) - np.outer(alpha, alpha))
        slope = outer * (signal * (5 / 3) * (1 + r) * decay)
        gradient = np.empty_like(theta)
        gradient[:d] = np.einsum("ij,ijk->k", slope, self._gaps) / scales**2
        gradient[d] = np.sum(outer * kernel)
        gradient[d + 1] = noise * np.trace(outer)
        return float(value), gradient + (theta - means) / widths**2
