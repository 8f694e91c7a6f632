"""How a measured surface bends at a point of its grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thalweg.core.errors import UsageError

if TYPE_CHECKING:
    from thalweg.landscape.grid import Grid


@dataclass(frozen=True)
class Bending:
    r"""The principal curvatures of the loss within a plane.

    With H the second derivatives along the plane's axes and G the inner products of its
    directions, :math:`H v = \lambda G v`: :math:`\lambda` is the second derivative of the loss
    per squared distance in weight space, the curvature of the loss restricted to the plane.

    Attributes:
        values: the two curvatures, the larger one first.
        directions: v of each in the plane's units, of length 1 in weight space.
    """

    values: tuple[float, float]
    directions: tuple[tuple[float, float], tuple[float, float]]


def bending(grid: Grid, x: float, y: float, quantity: str = "loss") -> Bending | None:
    """Return the curvatures at a grid point by central differences over its eight neighbours.

    They are exact for a quadratic on an even grid; None where a neighbour is missing or not
    finite, as at the rim.

    Args:
        grid: a surface or plane.
        x: a coordinate of the grid along the first direction.
        y: along the second.
        quantity: "loss", or a name in ``grid.also``.

    Raises:
        UsageError: no such grid point or quantity.
    """
    if quantity != "loss" and quantity not in grid.also:
        raise UsageError(f'there is no "{quantity}" on this grid; known: loss, {list(grid.also)}')
    if x not in grid.x or y not in grid.y:
        raise UsageError(f"({x}, {y}) is no point of the grid; take one from its x and y")
    z = np.array(grid.losses if quantity == "loss" else grid.also[quantity])
    i, j = grid.x.index(x), grid.y.index(y)
    if not (0 < i < len(grid.x) - 1 and 0 < j < len(grid.y) - 1):
        return None
    xx = _second(grid.x[i - 1 : i + 2], z[j, i - 1 : i + 2])
    yy = _second(grid.y[j - 1 : j + 2], z[j - 1 : j + 2, i])
    corners = z[j + 1, i + 1] - z[j + 1, i - 1] - z[j - 1, i + 1] + z[j - 1, i - 1]
    xy = float(corners / ((grid.x[i + 1] - grid.x[i - 1]) * (grid.y[j + 1] - grid.y[j - 1])))
    if not math.isfinite(xx + yy + xy):
        return None
    g0, g1, g2 = grid.gram()
    lower = np.linalg.inv(np.linalg.cholesky(np.array([[g0, g1], [g1, g2]])))
    values, vectors = np.linalg.eigh(lower @ np.array([[xx, xy], [xy, yy]]) @ lower.T)
    ways = (lower.T @ vectors)[:, ::-1].T.tolist()
    return Bending(
        (float(values[1]), float(values[0])), ((ways[0][0], ways[0][1]), (ways[1][0], ways[1][1]))
    )


def _second(at: tuple[float, ...], z: np.ndarray) -> float:
    a, b = at[1] - at[0], at[2] - at[1]
    return float(2 * ((z[2] - z[1]) / b - (z[1] - z[0]) / a) / (a + b))
