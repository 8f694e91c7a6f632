"""The covariance matrix adaptation evolution strategy (CMA-ES)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from thalweg.core.checks import check_number, check_whole
from thalweg.tune.searcher import Searcher, Study, Trial, penalised
from thalweg.tune.space import Position

_TINY = 1e-7
_RESAMPLES = 50


class CMA:
    r"""The strategy itself: a normal distribution that follows what is good.

    With ranked samples :math:`x_{i:\lambda} = m + \sigma y_i`, :math:`y_i \sim N(0, C)` and
    weights :math:`w_i \propto \ln((\lambda+1)/2) - \ln i` of the better half, a generation does

    .. math::

        m &\leftarrow m + \sigma \bar y, \quad \bar y = \sum w_i y_i \\
        p_s &\leftarrow (1-c_s) p_s + \sqrt{c_s (2-c_s) \mu_w}\, C^{-1/2} \bar y \\
        p_c &\leftarrow (1-c_c) p_c + h_s \sqrt{c_c (2-c_c) \mu_w}\, \bar y \\
        C &\leftarrow (1 - c_1 - c_\mu + (1-h_s) c_1 c_c (2-c_c)) C + c_1 p_c p_c^T
            + c_\mu \sum w_i y_i y_i^T \\
        \sigma &\leftarrow \sigma \exp\bigl(\tfrac{c_s}{d_s}(|p_s| / E|N(0,I)| - 1)\bigr)

    with the constants of Hansen's tutorial (arXiv:1604.00772) and without its negative weights.

    Args:
        mean: where to start (n,).
        sigma: the first standard deviation.
        size: samples of a generation; ``4 + floor(3 ln n)`` by default.
    """

    def __init__(self, mean: np.ndarray, sigma: float, size: int | None = None) -> None:
        n = len(mean)
        self.mean, self.sigma = np.array(mean, dtype=float), float(sigma)
        self.size = size or 4 + math.floor(3 * math.log(n))
        raw = math.log((self.size + 1) / 2) - np.log(np.arange(1, self.size // 2 + 1))
        self.weights = raw / raw.sum()
        mu = 1 / np.sum(self.weights**2)
        self.mu = mu
        self.c_s = (mu + 2) / (n + mu + 5)
        self.d_s = 1 + 2 * max(0.0, math.sqrt((mu - 1) / (n + 1)) - 1) + self.c_s
        self.c_c = (4 + mu / n) / (n + 4 + 2 * mu / n)
        self.c_1 = 2 / ((n + 1.3) ** 2 + mu)
        self.c_mu = min(1 - self.c_1, 2 * (mu - 2 + 1 / mu) / ((n + 2) ** 2 + mu))
        self.expected = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n))
        self.covariance = np.eye(n)
        self.p_s, self.p_c = np.zeros(n), np.zeros(n)
        self.generation = 0
        self._root = self._inverse_root = np.eye(n)

    def at(self, z: np.ndarray) -> np.ndarray:
        """Return the points ``m + sigma C^(1/2) z`` of standard normal draws (..., n)."""
        return self.mean + self.sigma * (z @ self._root)

    def tell(self, points: np.ndarray, losses: np.ndarray) -> None:
        """Adapt to a generation: its points (size, n) and their losses (size,)."""
        n = len(self.mean)
        best = np.argsort(losses, kind="stable")[: len(self.weights)]
        y = (points[best] - self.mean) / self.sigma
        step = self.weights @ y
        self.mean = self.mean + self.sigma * step
        self.generation += 1
        along = math.sqrt(self.c_s * (2 - self.c_s) * self.mu)
        self.p_s = (1 - self.c_s) * self.p_s + along * (self._inverse_root @ step)
        length = float(np.linalg.norm(self.p_s))
        usual = math.sqrt(1 - (1 - self.c_s) ** (2 * self.generation)) * self.expected
        h_s = float(length / usual < 1.4 + 2 / (n + 1))
        self.p_c = (1 - self.c_c) * self.p_c
        self.p_c += h_s * math.sqrt(self.c_c * (2 - self.c_c) * self.mu) * step
        kept = 1 - self.c_1 - self.c_mu + (1 - h_s) * self.c_1 * self.c_c * (2 - self.c_c)
        self.covariance = (
            kept * self.covariance
            + self.c_1 * np.outer(self.p_c, self.p_c)
            + self.c_mu * (y.T * self.weights) @ y
        )
        self.sigma *= math.exp(min(1.0, (self.c_s / self.d_s) * (length / self.expected - 1)))
        values, axes = np.linalg.eigh((self.covariance + self.covariance.T) / 2)
        values = np.sqrt(np.maximum(values, 1e-20))
        self._root = (axes * values) @ axes.T
        self._inverse_root = (axes / values) @ axes.T

    def converged(self) -> bool:
        """Return whether the distribution has shrunk to a point of the unit cube."""
        return self.sigma * math.sqrt(float(np.max(np.diag(self.covariance)))) < _TINY


@dataclass
class _State:
    """Where the trials told so far have led, for the next question."""

    strategy: CMA
    told: list[Trial] = field(default_factory=list)
    generation: int = 0
    restarts: int = 0


@dataclass(frozen=True)
class CMAES(Searcher):
    """CMA-ES in the unit cube, which starts in its middle.

    Samples outside are drawn again, and in the end moved to the border. A choice takes the value
    of the interval in which its coordinate falls; parameters that are not active are coordinates
    without effect. When the distribution has shrunk to a point the search starts again from a
    random one with twice the samples a generation.

    Args:
        sigma: first standard deviation, in units of a parameter's range.
        size: trials of a generation; ``4 + floor(3 ln d)`` by default.

    Raises:
        UsageError: a number is out of range.
    """

    sigma: float = 0.25
    size: int | None = None
    _states: dict[int, _State] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_number("cma-es: sigma", self.sigma, "(0, inf)")
        if self.size is not None:
            check_whole("cma-es: size", self.size, least=4)

    def position(self, study: Study) -> Position:
        """Return the next sample of the generation that the trials so far lead to."""
        at = self._states.get(study.seed)
        if at is None or at.told != list(study.trials[: len(at.told)]):
            # The state follows from the results: generations are drawn again, each from a
            # stream of its own.
            at = self._states[study.seed] = _State(self._begun(study, 0))
        while True:
            points = self._generation(study, at.strategy, at.generation)
            done = study.trials[len(at.told) :][: at.strategy.size]
            if len(done) < at.strategy.size:
                return study.space.position(points[len(done)])
            losses = penalised(done)
            at.strategy.tell(points, np.zeros(len(done)) if losses is None else losses)
            at.told += done
            at.generation += 1
            if at.strategy.converged():
                at.restarts += 1
                at.strategy = self._begun(study, at.restarts)

    def _begun(self, study: Study, restarts: int) -> CMA:
        n = len(study.space)
        mean = study.rng("cma-es", "restart", restarts).random(n) if restarts else np.full(n, 0.5)
        first = self.size or 4 + math.floor(3 * math.log(n))
        return CMA(mean, self.sigma, first * 2**restarts)

    def _generation(self, study: Study, strategy: CMA, round_: int) -> np.ndarray:
        rng = study.rng("cma-es", round_)
        points = np.empty((strategy.size, len(study.space)))
        for i in range(strategy.size):
            for _ in range(_RESAMPLES):
                point = strategy.at(rng.standard_normal(len(study.space)))
                if np.all((point >= 0) & (point <= 1)):
                    break
            points[i] = np.clip(point, 0, 1)
        return points
