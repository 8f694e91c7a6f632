"""Curvatures of surfaces that are known exactly."""

import math

import numpy as np
import pytest

from thalweg.core.errors import UsageError
from thalweg.landscape import Plane, Surface
from thalweg.landscape.bending import bending

HESSIAN = np.array([[6.0, 2.0], [2.0, -8.0]])
X = (-1.0, -0.25, 0.0, 0.25, 1.0)


def grid(cls=Surface, x=X, y=X, **fields):
    across, up = np.meshgrid(x, y)
    points = np.stack([across, up], -1)
    losses = 0.5 * np.einsum("yxi,ij,yxj->yx", points, HESSIAN, points) + across - 3
    rows = tuple(map(tuple, losses.tolist()))
    return cls(x=x, y=y, losses=rows, batch_norm="frozen", **fields)


def test_a_quadratic_is_found_in_the_lengths_of_weight_space():
    one = grid(Surface, norms=(2.0, 5.0), cosine=0.3, kind="given")
    g = np.array([[4.0, 3.0], [3.0, 25.0]])
    assert one.gram() == pytest.approx((4.0, 3.0, 25.0))
    found = bending(one, 0.0, 0.0)
    values = sorted(np.linalg.eigvals(np.linalg.solve(g, HESSIAN)).real, reverse=True)
    np.testing.assert_allclose(found.values, values, rtol=1e-12)
    for value, way in zip(found.values, np.array(found.directions), strict=True):
        np.testing.assert_allclose(HESSIAN @ way, value * g @ way, atol=1e-12)
        assert way @ g @ way == pytest.approx(1)


def test_second_derivatives_are_exact_on_uneven_axes_too():
    one = grid(
        Plane,
        x=(-1.0, 0.0, 0.5, 3.0),
        names=("a", "b", "c"),
        coordinates=((0.0, 0.0), (0.0, 1.0), (0.5, 0.0)),
    )
    found = bending(one, 0.5, 0.25)
    np.testing.assert_allclose(
        found.values, sorted(np.linalg.eigvalsh(HESSIAN), reverse=True), rtol=1e-12
    )


def test_the_rim_and_gaps_have_none():
    one = grid(Surface, norms=(1.0, 1.0), cosine=0.0, kind="given")
    assert bending(one, -1.0, 0.0) is None
    losses = [list(row) for row in one.losses]
    losses[1][1] = math.nan
    hole = Surface(
        x=X,
        y=X,
        losses=tuple(map(tuple, losses)),
        batch_norm="frozen",
        norms=(1.0, 1.0),
        cosine=0.0,
        kind="given",
        also={"test loss": one.losses},
    )
    assert bending(hole, 0.0, 0.0) is None
    assert bending(hole, 0.0, 0.0, "test loss") == bending(one, 0.0, 0.0)


def test_what_is_not_on_the_grid_is_refused():
    one = grid(Surface, norms=(1.0, 1.0), cosine=0.0, kind="given")
    with pytest.raises(UsageError, match="no point of the grid"):
        bending(one, 0.1, 0.0)
    with pytest.raises(UsageError, match="test loss"):
        bending(one, 0.0, 0.0, "test loss")
