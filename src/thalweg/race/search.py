"""Where each trial looks: quasi-random points of a search space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import qmc

from thalweg.core.seeds import derive_seed
from thalweg.core.space import Space

EDGE = 0.1
"""A best learning rate in the outer tenth of its range, at either end, lies at an edge."""


@dataclass(frozen=True)
class Trial:
    """One point of a search space.

    Attributes:
        position: ``slug.parameter`` -> ``u`` of [0, 1).
        hyper: ``slug.parameter`` -> the value there.
    """

    position: dict[str, float]
    hyper: dict[str, Any]


def trials(space: Mapping[str, Space], number: int, seed: int) -> list[Trial]:
    """Return the first trials of a space, from a scrambled Halton sequence.

    Trial ``k`` depends only on the seed, ``k`` and the space: not on how many trials there are,
    nor on who else takes part. Dimension ``d`` of the sequence is the same in every space, so
    equal spaces see equal points, and because a recipe names its learning rate first, all
    entrants see the same positions within their ranges of learning rates.

    Args:
        space: ``slug.parameter`` -> space, the learning rate first.
        number: how many trials; an empty space has only one point and gets one trial.
        seed: the seed of the race.
    """
    if not space:
        return [Trial({}, {})]
    scrambling = np.random.default_rng(derive_seed(seed, "search"))
    points = qmc.Halton(len(space), scramble=True, rng=scrambling).random(number)
    positions = [dict(zip(space, map(float, point), strict=True)) for point in points]
    return [
        Trial(position, {key: space[key].at(u) for key, u in position.items()})
        for position in positions
    ]


def edge(position: Mapping[str, float]) -> Literal["lower", "upper"] | None:
    """Return the edge of its range at which a trial's learning rate lies, if at any."""
    for key, u in position.items():
        if key.endswith(".lr"):
            return "lower" if u < EDGE else "upper" if u > 1 - EDGE else None
    return None
