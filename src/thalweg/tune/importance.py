"""Which parameters matter, and how: main effects of a Gaussian process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import qmc

from thalweg.core.space import Choice
from thalweg.tune.bayesian import tamed
from thalweg.tune.gaussian_process import GaussianProcess
from thalweg.tune.searcher import Trial
from thalweg.tune.space import SearchSpace

LEAST = 5
"""With fewer trials nothing is said about importance."""

_POINTS = 256
_LEVELS = 33


@dataclass(frozen=True)
class Slice:
    """The expected loss along one parameter, the others averaged over their ranges.

    Attributes:
        name: the parameter.
        positions: where, in [0, 1].
        values: the parameter's values there.
        losses: the model's expected loss.
        share: the share of the variance over the space that this parameter explains alone.
    """

    name: str
    positions: list[float]
    values: list[Any]
    losses: list[float]
    share: float


def importance(space: SearchSpace, trials: Sequence[Trial]) -> dict[str, float]:
    """Return each parameter's share of the variance of the loss, the largest first.

    That is its first-order index: with a Gaussian process ``m`` through the trials, the variance
    of ``E[m | x_i]`` over that of ``m``, both over the whole space; what is missing to 1 are
    interactions. A conditional parameter's share is that among the trials that have it. Only
    trials of the longest budget count; empty with fewer than `LEAST` of them.
    """
    shares = {one.name: one.share for one in slices(space, trials)}
    return dict(sorted(shares.items(), key=lambda pair: -pair[1]))


def slices(space: SearchSpace, trials: Sequence[Trial]) -> list[Slice]:
    """Return the slice of every parameter that has enough trials, in the order of the space."""
    counted = comparable(trials)
    found: list[Slice] = []
    always = [name for name in space.names if not space.is_conditional(name)]
    done: set[str] = set()
    found += _slices(space, counted, always, always)
    done.update(always)
    for name in space.names:
        if name not in done:
            having = [trial for trial in counted if name in trial.position]
            together = [other for other in space.names if all(other in t.position for t in having)]
            found += _slices(space, having, together, [name])
    return sorted(found, key=lambda one: space.names.index(one.name))


def comparable(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials with a loss that have got equally far.

    That is as far as possible with `LEAST` trials or more; none if there are not so many.
    """
    able = [trial for trial in trials if trial.loss is not None]
    for reached in sorted({trial.reached for trial in able}, reverse=True):
        found = [trial for trial in able if trial.reached == reached]
        if len(found) >= LEAST:
            return found
    return []


def _slices(
    space: SearchSpace, trials: Sequence[Trial], names: Sequence[str], wanted: Sequence[str]
) -> list[Slice]:
    """Return slices of some parameters, with a model of those that all these trials have."""
    if len(trials) < LEAST or not names:
        return []
    losses = tamed(np.array([trial.loss for trial in trials], dtype=float))
    if np.ptp(losses) == 0:
        return []
    x = np.array([_coded(space, names, trial.position) for trial in trials])
    model = GaussianProcess(x, losses)
    points = qmc.Sobol(len(names), scramble=True, rng=np.random.default_rng(0)).random(_POINTS)

    def mean(cube: np.ndarray) -> np.ndarray:
        rows = [
            _coded(space, names, dict(zip(names, map(float, point), strict=True))) for point in cube
        ]
        return model.predict(np.array(rows))[0]

    total = float(np.var(mean(points)))
    found = []
    for name in wanted:
        column, one = names.index(name), space.spaces[name]
        count = len(one.values) if isinstance(one, Choice) else _LEVELS
        levels = [(i + 0.5) / count for i in range(count)]
        curve = []
        for u in levels:
            fixed = points.copy()
            fixed[:, column] = u
            curve.append(float(np.mean(mean(fixed))))
        share = float(np.var(curve)) / total if total > 0 else 0.0
        values = [one.at(u) for u in levels]
        found.append(Slice(name, levels, values, curve, min(share, 1.0)))
    return found


def _coded(space: SearchSpace, names: Sequence[str], position: Mapping[str, float]) -> np.ndarray:
    features: list[float] = []
    for name in names:
        one, u = space.spaces[name], position[name]
        if isinstance(one, Choice):
            count = len(one.values)
            chosen = min(int(u * count), count - 1)
            features += [float(i == chosen) for i in range(count)]
        else:
            features.append(u)
    return np.array(features)
