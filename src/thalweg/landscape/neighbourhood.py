"""The loss around one solution, along directions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from thalweg.core.errors import UsageError, did_you_mean
from thalweg.landscape.directions import Normalisation, check_direction, random_directions
from thalweg.landscape.geometry import inner_product
from thalweg.landscape.objective import Objective, Progress

Statistics = Literal["frozen", "recalibrate"]
STATISTICS: tuple[Statistics, ...] = ("frozen", "recalibrate")


@dataclass(frozen=True)
class Slice:
    r"""The loss along a line through the weights, :math:`L(w + a d)`.

    Attributes:
        positions: a, from -extent to extent, 0 included.
        losses: the loss at each.
        norm: the direction's Euclidean norm, so that ``a * norm`` is a distance.
        normalisation: how the direction was scaled, "given" if it was the user's.
        batch_norm: the policy for batch-norm statistics.
    """

    positions: tuple[float, ...]
    losses: tuple[float, ...]
    norm: float
    normalisation: Normalisation | Literal["given"]
    batch_norm: Statistics


@dataclass(frozen=True)
class Surface:
    r"""The loss on a plane through the weights, :math:`L(w + a d_1 + b d_2)`.

    Attributes:
        x: a, from -extent to extent, 0 included.
        y: b, likewise.
        losses: ``losses[j][i]`` is the loss at ``(x[i], y[j])``.
        norms: the directions' Euclidean norms.
        cosine: of the angle between the directions: 0 up to rounding for random ones.
        normalisation: how the directions were scaled, "given" if they were the user's.
        batch_norm: the policy for batch-norm statistics.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    losses: tuple[tuple[float, ...], ...]
    norms: tuple[float, float]
    cosine: float
    normalisation: Normalisation | Literal["given"]
    batch_norm: Statistics


def slice_along(
    objective: Objective,
    direction: Sequence[Tensor] | None = None,
    *,
    normalisation: Normalisation = "filter",
    extent: float = 1.0,
    steps: int = 50,
    seed: int = 0,
    batch_norm: Statistics = "frozen",
    progress: Progress | None = None,
) -> Slice:
    """Evaluate the loss along a line through the model's weights.

    Args:
        objective: the loss.
        direction: one tensor for each trainable parameter; a random one unless given.
        normalisation: of a random direction; see `random_directions`.
        extent: how far to go to both sides, in multiples of the direction.
        steps: from one end to the other, made even so that the weights themselves are on it.
        seed: of a random direction.
        batch_norm: "frozen" keeps the model's statistics, "recalibrate" recomputes them at every
            point.
        progress: told how many of how many points are evaluated.

    Raises:
        UsageError: an impossible argument, or as `random_directions`.
    """
    _check(extent, steps, batch_norm)
    given = None if direction is None else [direction]
    (chosen,) = _directions(objective, given, 1, normalisation, seed)
    positions = _positions(extent, steps)
    losses = []
    with objective.around([chosen], recalibrate=batch_norm == "recalibrate") as loss_at:
        for done, a in enumerate(positions, 1):
            losses.append(loss_at((a,)))
            if progress is not None:
                progress(done, len(positions))
    kind = normalisation if direction is None else "given"
    return Slice(positions, tuple(losses), _norm(chosen), kind, batch_norm)


def surface(
    objective: Objective,
    directions: tuple[Sequence[Tensor], Sequence[Tensor]] | None = None,
    *,
    normalisation: Normalisation = "filter",
    extent: float = 1.0,
    steps: int = 50,
    seed: int = 0,
    batch_norm: Statistics = "frozen",
    progress: Progress | None = None,
) -> Surface:
    """Evaluate the loss on a square of the plane that two directions span at the model's weights.

    For planes through several solutions there is `plane`. Memory does not depend on the number of
    points.

    Args:
        objective: the loss.
        directions: two of them, each one tensor for each trainable parameter; random ones,
            orthogonal to each other, unless given. Given ones are taken as they are.
        normalisation: of random directions; see `random_directions`.
        extent: how far to go to each side, in multiples of the directions.
        steps: from one side to the other, made even so that the weights themselves are on it.
        seed: of random directions.
        batch_norm: "frozen" keeps the model's statistics, "recalibrate" recomputes them at every
            point.
        progress: told how many of how many points are evaluated.

    Raises:
        UsageError: an impossible argument, directions that are parallel, or as
            `random_directions`.
    """
    _check(extent, steps, batch_norm)
    one, other = _directions(objective, directions, 2, normalisation, seed)
    norms = _norm(one), _norm(other)
    cosine = inner_product(one, other) / norms[0] / norms[1]
    if 1 - abs(cosine) < 1e-6:
        raise UsageError("the two directions are parallel and span no plane")
    positions = _positions(extent, steps)
    rows, done = [], 0
    with objective.around([one, other], recalibrate=batch_norm == "recalibrate") as loss_at:
        for b in positions:
            row = []
            for a in positions:
                row.append(loss_at((a, b)))
                done += 1
                if progress is not None:
                    progress(done, len(positions) ** 2)
            rows.append(tuple(row))
    kind = normalisation if directions is None else "given"
    return Surface(positions, positions, tuple(rows), norms, cosine, kind, batch_norm)


def _check(extent: float, steps: int, batch_norm: str) -> None:
    if not (extent > 0 and math.isfinite(extent)) or steps < 2:
        raise UsageError(
            "a surface needs a positive, finite extent and at least two steps; found "
            f"{extent} and {steps}"
        )
    if batch_norm not in STATISTICS:
        hint = did_you_mean(batch_norm, STATISTICS)
        raise UsageError(f'unknown batch-norm policy "{batch_norm}" around one point.{hint}')


def _directions(
    objective: Objective,
    given: Sequence[Sequence[Tensor]] | None,
    count: int,
    normalisation: Normalisation,
    seed: int,
) -> list[list[Tensor]]:
    if given is None:
        return random_directions(objective, count, normalisation, seed=seed)
    if len(given) != count:
        raise UsageError(f"expected {count} directions, found {len(given)}")
    return [check_direction(objective, one) for one in given]


def _positions(extent: float, steps: int) -> tuple[float, ...]:
    half = (steps + 1) // 2
    return tuple(extent * k / half for k in range(-half, half + 1))


def _norm(direction: Sequence[Tensor]) -> float:
    return math.sqrt(inner_product(direction, direction))
