"""The loss along lines between solutions and on the plane through three of them."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from thalweg.core.errors import UsageError
from thalweg.landscape.along import Along
from thalweg.landscape.curve import Curve
from thalweg.landscape.curve_trail import curve_trail
from thalweg.landscape.geometry import (
    DegenerateError,
    axis,
    check_distinct,
    distance,
    frame,
    rounding,
    vectors_of,
)
from thalweg.landscape.grid import Grid, fill
from thalweg.landscape.measure import Series, check_also, counting, measured
from thalweg.landscape.mix import Weights
from thalweg.landscape.objective import Objective, Progress
from thalweg.landscape.policy import Policy, settled_between


@dataclass(frozen=True)
class Line(Along):
    r"""The loss along the segment :math:`(1 - t) w_a + t w_b`.

    Attributes:
        names: the two solutions, a and b.
        distance: Euclidean distance of their weights (parameters only, not buffers).
        positions: t from 0 to 1, both ends included.
        losses: the loss at each position; the ends are the solutions' own.
        barrier: the most that the loss exceeds the straight line between the end losses; 0 where
            it never does, NaN where a loss is NaN.
        batch_norm: the policy for batch-norm statistics.
        frozen_at: the solution whose statistics were kept, if the policy is ``frozen``.
        also: other quantities at the same weights by name, such as the test loss.
    """

    names: tuple[str, str]
    distance: float
    positions: Series
    losses: Series
    barrier: float
    batch_norm: Policy
    frozen_at: str | None = None
    also: Mapping[str, Series] = field(default_factory=dict)

    def _rise(self, values: Sequence[float]) -> float:
        return _barrier(self.positions, values)

    def way(self) -> dict[str, Any]:
        """Return positions, losses, label, title and ends; see `Along`."""
        return {
            "positions": self.positions,
            "label": "share of the way",
            "title": f"barrier {self.barrier:.3g}, distance {self.distance:.3g}",
            "ends": self.names,
        }


@dataclass(frozen=True, kw_only=True)
class Plane(Grid):
    r"""The loss on the plane through three solutions, on a grid that holds all three of them.

    Attributes:
        names: the three solutions.
        coordinates: where each lies, in Euclidean distance of weights: the first at (0, 0), the
            third on the x axis, the second above it.
        frozen_at: the solution whose statistics were kept, if the policy is ``frozen``.
    """

    names: tuple[str, str, str]
    coordinates: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    frozen_at: str | None = None

    def through(self) -> dict[str, tuple[float, float]]:
        """Return the three solutions with their coordinates."""
        return dict(zip(self.names, self.coordinates, strict=True))

    def labels(self) -> tuple[str, str]:
        """Return what the axes are called."""
        return "distance in weight space", "distance in weight space"

    @property
    def solutions(self) -> tuple[float, ...]:
        """Return the loss at each solution, its entry in ``losses``."""
        return tuple(self.losses[self.y.index(y)][self.x.index(x)] for x, y in self.coordinates)

    def _anchors(self) -> Sequence[tuple[float, float]]:
        return self.coordinates


def lines(
    objective: Objective,
    points: Mapping[str, Weights],
    *,
    steps: int = 24,
    batch_norm: Policy | None = None,
    frozen_at: str | None = None,
    also: Mapping[str, Objective] | None = None,
    progress: Progress | None = None,
) -> list[Line]:
    """Evaluate the loss on the straight line between each pair of solutions.

    Args:
        objective: the loss.
        points: at least two solutions by name, weights of the objective's model.
        steps: steps from one end to the other, so ``steps + 1`` points a line.
        batch_norm: the policy for batch-norm statistics (see `Objective.span`); a model with batch
            norm needs one.
        frozen_at: the solution whose statistics the policy ``frozen`` keeps.
        also: objectives of the same model by name that are evaluated at the same weights and
            statistics: the test loss, a metric on either.
        progress: told how many of how many points are evaluated.

    Raises:
        DegenerateError: two solutions coincide.
        UsageError: fewer than two solutions or one step, or as `Objective.span`.
    """
    batch_norm = settled_between(objective.module, batch_norm, frozen_at, points)
    others = check_also(objective, also)
    if len(points) < 2 or steps < 1:
        raise UsageError(
            f"a line needs two solutions and one step, found {len(points)} and {steps}"
        )
    pairs = list(itertools.combinations(range(len(points)), 2))
    names = list(points)
    vectors = vectors_of(objective.model, points)
    distances = {pair: distance(vectors[pair[0]], vectors[pair[1]]) for pair in pairs}
    check_distinct(names, vectors, "line")
    positions = tuple(k / steps for k in range(steps + 1))
    tell = counting(progress, len(pairs) * (steps - 1) + len(names))
    results = []
    with objective.span(points, batch_norm=batch_norm, frozen_at=frozen_at) as loss_at:
        units = [[float(i == j) for j in range(len(names))] for i in range(len(names))]
        ends, also_ends = measured(loss_at, others, units, tell)
        for a, b in pairs:
            mixes = [
                [{a: 1 - t, b: t}.get(i, 0.0) for i in range(len(names))] for t in positions[1:-1]
            ]
            between, also_between = measured(loss_at, others, mixes, tell)
            losses = (ends[a], *between, ends[b])
            results.append(
                Line(
                    names=(names[a], names[b]),
                    distance=distances[a, b],
                    positions=positions,
                    losses=losses,
                    barrier=_barrier(positions, losses),
                    batch_norm=batch_norm,
                    frozen_at=frozen_at,
                    also={
                        name: (values[a], *also_between[name], values[b])
                        for name, values in also_ends.items()
                    },
                )
            )
    return results


def plane(
    objective: Objective,
    points: Mapping[str, Weights],
    *,
    size: int = 25,
    margin: float = 0.2,
    batch_norm: Policy | None = None,
    frozen_at: str | None = None,
    also: Mapping[str, Objective] | None = None,
    curves: Mapping[str, Curve] | None = None,
    seconds: float | None = None,
    keep: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Plane:
    r"""Evaluate the loss on the plane through three solutions.

    With :math:`w_1, w_2, w_3` in the order of ``points``: :math:`u = (w_3 - w_1) / |w_3 - w_1|`,
    :math:`v` the unit vector along :math:`w_2 - w_1 - \langle w_2 - w_1, u \rangle u`. The grid
    covers the bounding box of the three solutions and a margin, and passes through each of them:
    points are computed as affine mixes of the stored weights, whose coefficients at a solution
    are exactly 0, 0 and 1. Garipov et al., "Loss Surfaces, Mode Connectivity, and Fast Ensembling
    of DNNs", 2018, arXiv:1802.10026.

    Args:
        objective: the loss.
        points: three solutions by name, weights of the objective's model.
        size: grid points a side, about; a few are added where solutions need a row of their own.
        margin: what is added on each side, as a share of the box's width and height.
        batch_norm: the policy for batch-norm statistics (see `Objective.span`); a model with
            batch norm needs one, and the published procedure is ``recalibrate``.
        frozen_at: the solution whose statistics the policy ``frozen`` keeps.
        curves: curves by name (see `connect`), drawn as they lie on the plane with their distance
            from it; one with a single bend lies on the plane of its three points.
        also: as of `surface`, and so are ``seconds`` and ``keep``.
        seconds: stop after so many, with what is then evaluated.
        keep: a file in which the result is kept as it grows, and from which it is continued.
        progress: told how many of how many points are evaluated.

    Raises:
        DegenerateError: the solutions span no plane; it names those that differ, for `lines`.
        UsageError: not three solutions, a grid or margin that is none, or as `Objective.span`.
    """
    batch_norm = settled_between(objective.module, batch_norm, frozen_at, points)
    others = check_also(objective, also)
    if len(points) != 3 or size < 2 or not margin >= 0:
        raise UsageError(
            "a plane needs three solutions, two grid points a side and a margin of at least 0; "
            f"found {len(points)}, {size} and {margin}"
        )
    first, second, third = points
    vectors = vectors_of(objective.model, points)
    check_distinct(list(points), vectors, "plane")
    shape = dx, px, dy = frame(*vectors)
    if dy <= rounding(vectors):
        raise DegenerateError(
            f'"{first}", "{second}" and "{third}" lie on one line in weight space and span no '
            "plane; compare them along lines instead",
            tuple(points),
        )
    trails = []
    for name, curve in (curves or {}).items():
        bent = {f"point {j} of {name}": weights for j, weights in enumerate(curve.points)}
        found = vectors_of(objective.model, bent)
        trails.append(curve_trail(vectors, shape, name, curve, found))
    xs = axis((0.0, dx, px), size, margin)
    ys = axis((0.0, dy), size, margin)
    start = Plane(
        names=(first, second, third),
        coordinates=((0.0, 0.0), (px, dy), (dx, 0.0)),
        x=xs,
        y=ys,
        losses=(),
        batch_norm=batch_norm,
        frozen_at=frozen_at,
        trails=tuple(trails),
    )
    with objective.span(points, batch_norm=batch_norm, frozen_at=frozen_at) as loss_at:

        def value_at(x: float, y: float) -> float:
            second, third = y / dy, (x - y / dy * px) / dx
            return loss_at((1 - second - third, second, third))

        return fill(start, value_at, others, seconds=seconds, keep=keep, progress=progress)


def _barrier(positions: Sequence[float], losses: Sequence[float]) -> float:
    # The ends give 0 exactly, and max() would lose a NaN that does not come first.
    over = [
        loss - ((1 - t) * losses[0] + t * losses[-1])
        for t, loss in zip(positions[1:-1], losses[1:-1], strict=True)
    ]
    return math.nan if any(math.isnan(one) for one in [*over, *losses]) else max([0.0, *over])
