"""Where each trial looks: quasi-random points of a search space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import qmc

from thalweg.core.seeds import derive_seed
from thalweg.core.space import Log, Space

EDGE = 0.1
"""A best learning rate in the outer tenth of its range, at either end, lies at an edge."""

WINDOW = 0.5
"""Width of what a widened round looks through, as a share of the range of learning rates."""

WIDER = WINDOW / 2
"""By which share of its width a range is widened at both ends."""


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


def widened_trials(
    space: Mapping[str, Space], number: int, seed: int, centre: float
) -> list[Trial]:
    """Return the trials of `trials` with the learning rate looked for around a best one.

    A learning rate on a logarithmic range moves from position ``u`` to
    ``centre + WINDOW (u - 1/2)``, which may lie up to `WIDER` beyond an end of the range; all other
    values, and learning rates on other ranges, stay where they are.

    Args:
        space: as in `trials`.
        number: as in `trials`.
        seed: as in `trials`.
        centre: position of the best learning rate so far.
    """
    found = []
    for trial in trials(space, number, seed):
        position = dict(trial.position)
        for key, u in position.items():
            if _widens(key, space[key]):
                position[key] = centre + WINDOW * (u - 0.5)
        found.append(Trial(position, {key: space[key].at(u) for key, u in position.items()}))
    return found


def described(space: Mapping[str, Space], wider: bool = False) -> dict[str, Any]:
    """Return a search space as JSON-ready data, with the ranges of learning rates widened or not.

    A widened range says by which share of its width, under the key ``widened``.
    """
    found: dict[str, Any] = {}
    for key, one in space.items():
        if wider and isinstance(one, Log) and _widens(key, one):
            found[key] = {**one.widened(WIDER).describe(), "widened": WIDER}
        else:
            found[key] = one.describe()
    return found


def edge(position: Mapping[str, float], widened: float = 0.0) -> Literal["lower", "upper"] | None:
    """Return the edge of its range at which a trial's learning rate lies, if at any.

    Args:
        position: of the trial, in the range as it was at first.
        widened: by which share of its width the range was widened at both ends.
    """
    for key, u in position.items():
        if key.endswith(".lr"):
            share = (u + widened) / (1 + 2 * widened)
            return "lower" if share < EDGE else "upper" if share > 1 - EDGE else None
    return None


def _widens(key: str, space: Space) -> bool:
    return key.endswith(".lr") and isinstance(space, Log)
