"""Losses on a grid, the coarse points first, for as long as there is time."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from thalweg.core.errors import UsageError
from thalweg.landscape.drawn import Drawn
from thalweg.landscape.objective import Objective, Progress
from thalweg.landscape.results import Saved

Rows = tuple[tuple[float, ...], ...]

KEEP_SECONDS = 30.0
"""How often a result that is kept is written while it grows."""


@dataclass(frozen=True)
class Mark(Saved):
    """A point of weight space as it lies on a plane.

    Attributes:
        name: what it is called.
        x: coordinate along the first direction, in the plane's units.
        y: along the second.
        residual: Euclidean distance from the plane to the point itself.
    """

    name: str
    x: float
    y: float
    residual: float


@dataclass(frozen=True)
class Trail(Saved):
    """A trajectory, or a curve between solutions, as it lies on a plane.

    Attributes:
        name: what it is called.
        steps: the step of each point; of a curve its number.
        x: coordinates along the first direction, in the plane's units.
        y: along the second.
        residuals: Euclidean distance from the plane to each point.
        smooth: whether it is a curve, of which the points are only samples.
    """

    name: str
    steps: tuple[int, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]
    residuals: tuple[float, ...]
    smooth: bool = False


@dataclass(frozen=True, kw_only=True)
class Grid(Drawn):
    """Losses on a grid of a plane.

    Points are evaluated coarse to fine in an order that the axes fix, so that a result whose
    time ran out is a whole coarser grid and the beginning of the next finer one.

    Attributes:
        x: grid coordinates along the first direction.
        y: along the second.
        losses: ``losses[j][i]`` is the loss at ``(x[i], y[j])``; NaN where it is NaN or was not
            evaluated.
        also: other quantities at the same points by name, such as the test loss.
        marks: points that were projected on the plane.
        trails: trajectories that were.
        batch_norm: the policy for batch-norm statistics.
        evaluated: how many points were evaluated, None if all.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    losses: Rows
    batch_norm: str
    also: Mapping[str, Rows] = field(default_factory=dict)
    marks: tuple[Mark, ...] = ()
    trails: tuple[Trail, ...] = ()
    evaluated: int | None = None

    measured: ClassVar[tuple[str, ...]] = ("losses", "also", "evaluated")
    """The fields that depend on how far the evaluation went."""

    @property
    def complete(self) -> bool:
        """Return whether every point was evaluated."""
        return self.evaluated is None or self.evaluated == len(self.x) * len(self.y)

    def finest(self) -> tuple[list[int], list[int]]:
        """Return the columns and rows of the finest grid whose points were all evaluated.

        Empty if not even the coarsest was finished.
        """
        done = math.inf if self.evaluated is None else self.evaluated
        best: tuple[list[int], list[int]] = ([], [])
        for columns, rows in _levels(self.x, self.y, self._anchors()):
            if len(columns) * len(rows) <= done:
                best = columns, rows
        return best

    def through(self) -> dict[str, tuple[float, float]]:
        """Return the solutions that the plane goes through, with their coordinates."""
        return {}

    def labels(self) -> tuple[str, str]:
        """Return what the axes are called."""
        return "first direction", "second direction"

    def gram(self) -> tuple[float, float, float]:
        r"""Return :math:`|d_1|^2, d_1 \cdot d_2, |d_2|^2`, lengths in weight space of the axes."""
        return 1.0, 0.0, 1.0

    def _anchors(self) -> Sequence[tuple[float, float]]:
        """Return points whose rows and columns belong to the coarsest grid."""
        return [(0.0, 0.0)]


G = TypeVar("G", bound=Grid)


def fill(
    start: G,
    value_at: Callable[[float, float], float],
    also: Mapping[str, Objective],
    *,
    seconds: float | None = None,
    keep: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> G:
    """Evaluate a grid, from the coarse points to the fine ones.

    Args:
        start: the result without its measured fields.
        value_at: writes the weights of a point into the model and returns the loss.
        also: evaluated at the same weights.
        seconds: stop at the first point after so many; at least one point is evaluated.
        keep: a file in which the result is kept as it grows, also when the evaluation is
            interrupted; one that is there and incomplete is continued.
        progress: told how many of how many points are evaluated.

    Raises:
        UsageError: ``keep`` holds another result, or ``seconds`` is no positive number.
    """
    if seconds is not None and not seconds > 0:
        raise UsageError(f"the time budget must be a positive number of seconds, found {seconds}")
    values = np.full((1 + len(also), len(start.y), len(start.x)), math.nan)
    done = _resumed(start, values, list(also), keep) if keep is not None else 0

    def result(done: int) -> G:
        rows = [tuple(map(tuple, one)) for one in values.tolist()]
        return dataclasses.replace(
            start, losses=rows[0], also=dict(zip(also, rows[1:], strict=True)), evaluated=done
        )

    total = len(start.x) * len(start.y)
    begin = saved = time.monotonic()
    first = done
    try:
        for number, (j, i) in enumerate(order(start.x, start.y, start._anchors())):
            if number >= first:
                here = [value_at(start.x[i], start.y[j]), *(one.here() for one in also.values())]
                values[:, j, i] = here
                done = number + 1
                if progress is not None:
                    progress(done, total)
            elif number == 0 and first < total:
                _check_same(value_at(start.x[i], start.y[j]), float(values[0, j, i]), keep)
            now = time.monotonic()
            if keep is not None and now - saved > KEEP_SECONDS:
                result(done).save(keep)
                saved = now
            if seconds is not None and done > first and now - begin >= seconds:
                break
    finally:
        if keep is not None and done > first:
            result(done).save(keep)
    return result(done)


def order(
    x: Sequence[float], y: Sequence[float], anchors: Sequence[tuple[float, float]]
) -> Iterator[tuple[int, int]]:
    """Yield rows and columns of all points, the coarse grid first, then what refines it."""
    before: tuple[set[int], set[int]] = set(), set()
    for columns, rows in _levels(x, y, anchors):
        for j in rows:
            for i in columns:
                if i not in before[0] or j not in before[1]:
                    yield j, i
        before = set(columns), set(rows)


def _levels(
    x: Sequence[float], y: Sequence[float], anchors: Sequence[tuple[float, float]]
) -> Iterator[tuple[list[int], list[int]]]:
    """Yield columns and rows of finer and finer grids, each of which holds the one before."""
    stride = 1
    while 8 * stride <= max(len(x), len(y)) - 1:
        stride *= 2
    kept = [{0, len(axis) - 1} for axis in (x, y)]
    for anchor in anchors:
        for one, axis, value in zip(kept, (x, y), anchor, strict=True):
            one.update(i for i, here in enumerate(axis) if here == value)
    while stride:
        columns, rows = (
            sorted(one.union(range(0, len(axis), stride)))
            for one, axis in zip(kept, (x, y), strict=True)
        )
        yield columns, rows
        stride //= 2


def _resumed(start: Grid, values: np.ndarray, also: list[str], keep: Any) -> int:
    """Copy what a file holds already into the values; return how many points those are."""
    file = Path(keep)
    if not (file if file.suffix else file.with_suffix(".npz")).exists():
        return 0
    known = type(start).load(keep)
    fixed = [f.name for f in dataclasses.fields(start) if f.name not in start.measured]
    differing = [name for name in fixed if getattr(known, name) != getattr(start, name)]
    if list(known.also) != also:
        differing.append("also")
    if differing:
        raise UsageError(
            f"{keep} holds another {type(start).__name__.lower()}: {', '.join(differing)} "
            "differ; choose another file, or delete this one to start over"
        )
    values[:] = [known.losses, *known.also.values()]
    return values[0].size if known.evaluated is None else known.evaluated


def _check_same(loss: float, known: float, keep: Any) -> None:
    same = math.isnan(loss) and math.isnan(known)
    if not same and not math.isclose(loss, known, rel_tol=1e-6):
        raise UsageError(
            f"{keep} was computed with other weights or data: its first point has the loss "
            f"{known!r}, here it is {loss!r}; choose another file, or delete this one"
        )
