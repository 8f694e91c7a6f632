"""The loss around one solution, along directions."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.landscape.along import Along
from thalweg.landscape.directions import Normalisation, check_direction, random_directions
from thalweg.landscape.frame import Frame, Kind, check_span, given_frame, random_frame
from thalweg.landscape.geometry import axis, inner_product
from thalweg.landscape.grid import Grid, fill
from thalweg.landscape.measure import Series, check_also, counting, measured
from thalweg.landscape.mix import Weights
from thalweg.landscape.objective import Objective, Progress
from thalweg.landscape.policy import AROUND, Around, settled
from thalweg.landscape.trajectory import Trajectory, project_trajectory


@dataclass(frozen=True)
class Slice(Along):
    r"""The loss along a line through the weights, :math:`L(w + a d)`.

    Attributes:
        positions: a, from -extent to extent, 0 included.
        losses: the loss at each.
        norm: the direction's Euclidean norm, so that ``a * norm`` is a distance.
        normalisation: how the direction was scaled, "given" if it was the user's.
        batch_norm: the policy for batch-norm statistics.
        also: other quantities at the same weights by name, such as the test loss.
    """

    positions: Series
    losses: Series
    norm: float
    normalisation: Normalisation | Literal["given"]
    batch_norm: Around
    also: Mapping[str, Series] = field(default_factory=dict)

    def _rise(self, values: Sequence[float]) -> float:
        return max(values) - values[len(values) // 2]

    def way(self) -> dict[str, Any]:
        """Return positions, losses, label, title and ends; see `Along`."""
        return {
            "positions": [a * self.norm for a in self.positions],
            "label": "distance from the weights",
            "title": f"{self.normalisation} direction",
            "ends": None,
        }


@dataclass(frozen=True, kw_only=True)
class Surface(Grid):
    r"""The loss on a plane through weights, :math:`L(w + a d_1 + b d_2)`.

    Attributes:
        norms: the directions' Euclidean norms.
        cosine: of the angle between the directions: 0 up to rounding unless they were given.
        kind: how the directions were found; see `Frame`.
        explained: of "trajectory", the shares of its variance along each direction.
        eigenvalues: of "hessian", those of each direction.
    """

    norms: tuple[float, float]
    cosine: float
    kind: Kind
    explained: tuple[float, float] | None = None
    eigenvalues: tuple[float, float] | None = None

    def labels(self) -> tuple[str, str]:
        """Return what the axes are called."""
        if self.explained is not None:
            one, other = (f"{share:.1%} of the variance" for share in self.explained)
        elif self.eigenvalues is not None:
            one, other = (f"eigenvalue {value:.3g}" for value in self.eigenvalues)
        else:
            one, other = (f"{self.kind}, norm {norm:.3g}" for norm in self.norms)
        return f"first direction ({one})", f"second direction ({other})"

    def gram(self) -> tuple[float, float, float]:
        r"""Return :math:`|d_1|^2, d_1 \cdot d_2, |d_2|^2`, lengths in weight space of the axes."""
        one, other = self.norms
        return one**2, self.cosine * one * other, other**2


def slice_along(
    objective: Objective,
    direction: Sequence[Tensor] | None = None,
    *,
    normalisation: Normalisation = "filter",
    extent: float = 1.0,
    steps: int = 50,
    seed: int = 0,
    batch_norm: Around | None = None,
    also: Mapping[str, Objective] | None = None,
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
            point; a model with batch norm needs one of them.
        also: objectives of the same model by name, evaluated at the same points.
        progress: told how many of how many points are evaluated.

    Raises:
        UsageError: an impossible argument, or as `random_directions`.
    """
    _check(extent, steps)
    batch_norm = settled(objective.module, batch_norm, "frozen", AROUND)
    if direction is None:
        (chosen,) = random_directions(objective, 1, normalisation, seed=seed)
    else:
        chosen = check_direction(objective, direction)
    positions = _positions(extent, steps)
    others = check_also(objective, also)
    with objective.around([chosen], recalibrate=batch_norm == "recalibrate") as loss_at:
        losses, more = measured(
            loss_at, others, [(a,) for a in positions], counting(progress, len(positions))
        )
    kind = normalisation if direction is None else "given"
    norm = math.sqrt(inner_product(chosen, chosen))
    return Slice(positions, losses, norm, kind, batch_norm, more)


def surface(
    objective: Objective,
    frame: Frame | tuple[Sequence[Tensor], Sequence[Tensor]] | None = None,
    *,
    normalisation: Normalisation = "filter",
    extent: float | None = None,
    margin: float = 0.2,
    steps: int = 50,
    seed: int = 0,
    batch_norm: Around | None = None,
    also: Mapping[str, Objective] | None = None,
    marks: Mapping[str, Weights] | None = None,
    trails: Mapping[str, Trajectory] | None = None,
    seconds: float | None = None,
    keep: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Surface:
    """Evaluate the loss on a rectangle of a plane.

    For planes through several solutions there is `plane`. Memory does not depend on the number of
    points, beside the losses themselves.

    Args:
        objective: the loss.
        frame: the plane: of a trajectory (`trajectory_frame`), of the Hessian's eigenvectors
            (`hessian_frame`) or others; or two directions, each one tensor for each trainable
            parameter, taken as they are from the model's weights; or, unless given, random
            directions from there, orthogonal to each other.
        normalisation: of random directions; see `random_directions`.
        extent: how far to go to each side of the origin, in multiples of the directions; unless
            given, as far as the marks and trails reach, and 1 without any.
        margin: what is added around marks and trails, as a share of the rectangle they fill.
        steps: from one side to the other, made even so that the origin is on the grid.
        seed: of random directions.
        batch_norm: "frozen" keeps the origin's statistics, "recalibrate" recomputes them at every
            point on the objective's calibration batches; a model with batch norm needs one of them.
        also: objectives of the same model by name that are evaluated at the same points: the test
            loss, an error whose mean over samples is wanted.
        marks: weights by name, projected on the plane with their distance from it.
        trails: trajectories by name, likewise.
        seconds: stop after so many, with what is then evaluated: a coarser grid and part of the
            next finer one.
        keep: a file in which the result is kept as it grows, also when this is interrupted; one
            that holds the beginning of this very surface is continued.
        progress: told how many of how many points are evaluated.

    Raises:
        UsageError: an impossible argument, directions that are parallel, weights that are not the
            model's, another result in ``keep``, or as `random_directions`.
    """
    _check(1.0 if extent is None else extent, steps)
    batch_norm = settled(objective.module, batch_norm, "frozen", AROUND)
    others, marks, trails = check_also(objective, also), marks or {}, trails or {}
    if frame is None:
        chosen = random_frame(objective, normalisation, seed=seed)
    elif isinstance(frame, Frame):
        chosen = check_span(frame)
    else:
        chosen = given_frame(objective, frame)
    marked = tuple(chosen.project(weights, name) for name, weights in marks.items())
    drawn = tuple(project_trajectory(chosen, one, name) for name, one in trails.items())
    start = Surface(
        x=_axis([m.x for m in marked] + [x for t in drawn for x in t.x], extent, steps, margin),
        y=_axis([m.y for m in marked] + [y for t in drawn for y in t.y], extent, steps, margin),
        losses=(),
        batch_norm=batch_norm,
        marks=marked,
        trails=drawn,
        norms=chosen.norms,
        cosine=chosen.cosine,
        kind=chosen.kind,
        explained=chosen.explained,
        eigenvalues=chosen.eigenvalues,
    )
    recalibrate = batch_norm == "recalibrate"
    directions = [check_direction(objective, one) for one in chosen.directions]
    with objective.around(directions, recalibrate=recalibrate, origin=chosen.origin) as loss_at:
        return fill(
            start,
            lambda a, b: loss_at((a, b)),
            others,
            seconds=seconds,
            keep=keep,
            progress=progress,
        )


def _axis(
    reached: Sequence[float], extent: float | None, steps: int, margin: float
) -> tuple[float, ...]:
    """Return coordinates that hold 0: even ones for an extent, else over all that is reached."""
    spread = max(reached, default=0.0) - min(reached, default=0.0)
    if extent is not None or not spread > 0:
        return _positions(1.0 if extent is None else extent, steps)
    return axis((0.0, min(reached), max(reached)), steps + 1, margin)


def _check(extent: float, steps: int) -> None:
    if not (extent > 0 and math.isfinite(extent)) or steps < 2:
        raise UsageError(
            "a surface needs a positive, finite extent and at least two steps; found "
            f"{extent} and {steps}"
        )


def _positions(extent: float, steps: int) -> tuple[float, ...]:
    half = (steps + 1) // 2
    return tuple(extent * k / half for k in range(-half, half + 1))
