"""Bayesian optimisation with a Gaussian process: EI, PI and UCB."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from thalweg.core.checks import check_number, check_whole
from thalweg.core.space import Choice
from thalweg.tune import acquisition
from thalweg.tune.gaussian_process import GaussianProcess
from thalweg.tune.plain import quasi_random
from thalweg.tune.searcher import Searcher, Study, penalised
from thalweg.tune.space import Position

Promise = Callable[[np.ndarray], np.ndarray]

_CANDIDATES = 512
_NEIGHBOURS = 64
_REFINED = 3


@dataclass(frozen=True)
class _GaussianProcessSearch(Searcher, ABC):
    """What the three have in common: a model of the losses, and the point that promises most.

    The first trials are quasi-random. Losses above the upper quartile by more than 1.5 times the
    distance of the quartiles count as that much, since how bad a bad point is says nothing about
    good ones; trials without a loss are worse than the worst. The promise is taken to its
    maximum from random points and from neighbours of the best trials, then uphill by L-BFGS-B in
    the parameters that are no choices.

    Args:
        start: quasi-random trials before the model is asked; ``2 (d + 1)`` by default.

    Raises:
        UsageError: a number is out of range.
    """

    start: int | None = None

    def __post_init__(self) -> None:
        if self.start is not None:
            check_whole("start", self.start, least=2)

    def position(self, study: Study) -> Position:
        """Return the point that promises most."""
        number, space = len(study.trials), study.space
        losses = penalised(study.trials)
        if losses is None or number < (self.start or 2 * (len(space) + 1)):
            return quasi_random(study, number)
        rng = study.rng("gaussian process", number)
        x = np.array([space.features(trial.position) for trial in study.trials])
        model = GaussianProcess(x, tamed(losses))
        best = float(np.min(model.predict(x)[0]))

        def promise(points: np.ndarray) -> np.ndarray:
            features = np.array([space.features(space.position(point)) for point in points])
            mean, deviation = model.predict(features)
            return self._promise(
                (mean - best) / model.unit, np.maximum(deviation / model.unit, 1e-9)
            )

        candidates = self._candidates(study, losses, rng)
        order = np.argsort(-promise(candidates), kind="stable")
        chosen = [self._uphill(study, promise, candidates[i]) for i in order[:_REFINED]]
        point = max(chosen, key=lambda pair: pair[0])[1]
        position = space.position(point)
        if any(trial.position == position for trial in study.trials):
            # Once more at the same place teaches nothing about another.
            return quasi_random(study, number)
        return position

    @abstractmethod
    def _promise(self, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        """Return the promise of points, in units in which the best mean is 0 and losses vary 1."""

    def _candidates(self, study: Study, losses: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        space = study.space
        found = [rng.random((_CANDIDATES, len(space)))]
        for i in np.argsort(losses, kind="stable")[:3]:
            centre = space.point(study.trials[i].position)
            for spread in (0.1, 0.02):
                steps = spread * rng.standard_normal((_NEIGHBOURS, len(space)))
                near = np.clip(centre + steps, 0, 1)
                # A choice keeps its value, except for one neighbour in four.
                for j, one in enumerate(space.spaces.values()):
                    if isinstance(one, Choice):
                        near[:, j] = centre[j]
                        near[::4, j] = rng.random(len(near[::4]))
                found.append(near)
        return np.concatenate(found)

    def _uphill(
        self, study: Study, promise: Promise, start: np.ndarray
    ) -> tuple[float, np.ndarray]:
        free = [
            i for i, one in enumerate(study.space.spaces.values()) if not isinstance(one, Choice)
        ]
        if not free:
            return float(promise(start[None])[0]), start

        def downhill(u: np.ndarray) -> tuple[float, np.ndarray]:
            # Value and one-sided differences, all points in one prediction.
            step = 1e-6
            points = np.repeat(start[None], len(free) + 1, axis=0)
            points[:, free] = u
            away = np.where(u > 0.5, -step, step)
            for row, (column, move) in enumerate(zip(free, away, strict=True), 1):
                points[row, column] += move
            values = -promise(points)
            return float(values[0]), (values[1:] - values[0]) / away

        found = minimize(
            downhill,
            start[free],
            jac=True,
            method="L-BFGS-B",
            bounds=[(0, 1)] * len(free),
            options={"maxiter": 30},
        )
        point = start.copy()
        point[free] = np.clip(found.x, 0, 1)
        value = float(promise(point[None])[0])
        before = float(promise(start[None])[0])
        return (value, point) if value >= before else (before, start)


@dataclass(frozen=True)
class ExpectedImprovement(_GaussianProcessSearch):
    """A Gaussian process and expected improvement.

    Args:
        start: quasi-random trials before the model is asked; ``2 (d + 1)`` by default.
        xi: improvement that does not count, in standard deviations of the losses.
    """

    xi: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("gp-ei: xi", self.xi, "[0, inf)")

    def _promise(self, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        return acquisition.log_expected_improvement(mean, deviation, 0.0, self.xi)


@dataclass(frozen=True)
class ProbabilityOfImprovement(_GaussianProcessSearch):
    """A Gaussian process and the probability of improvement.

    Args:
        start: quasi-random trials before the model is asked; ``2 (d + 1)`` by default.
        xi: improvement that does not count, in standard deviations of the losses.
    """

    xi: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("gp-pi: xi", self.xi, "[0, inf)")

    def _promise(self, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        return acquisition.log_probability_of_improvement(mean, deviation, 0.0, self.xi)


@dataclass(frozen=True)
class UpperConfidenceBound(_GaussianProcessSearch):
    """A Gaussian process and the bound of what may be: the mean less ``kappa`` deviations.

    Args:
        start: quasi-random trials before the model is asked; ``2 (d + 1)`` by default.
        kappa: how many standard deviations may be hoped for.
    """

    kappa: float = 1.96

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("gp-ucb: kappa", self.kappa, "[0, inf)")

    def _promise(self, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        return acquisition.upper_confidence_bound(mean, deviation, self.kappa)


def tamed(losses: np.ndarray) -> np.ndarray:
    """Return losses whose upper outliers are moved to the upper fence of Tukey's box plot."""
    low, high = np.quantile(losses, (0.25, 0.75))
    fence = high + 1.5 * (high - low)
    return np.minimum(losses, fence) if fence > np.min(losses) else losses
