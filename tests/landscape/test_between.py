import math

import pytest
import torch
from torch import nn

from thalweg.core.errors import UsageError
from thalweg.landscape import DegenerateError, Objective, lines, plane, spanning


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Vector(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(size, dtype=torch.float64))


HALF = draw(7, 5, seed=11)
CURVATURE = HALF.T @ HALF
CENTRE = draw(5, seed=12)


def bowl(model, batch):
    offset = model.w - CENTRE
    return 0.5 * offset @ CURVATURE @ offset


def double_well(model, batch):
    return ((model.w**2 - 1) ** 2).sum()


@pytest.fixture
def objective():
    return Objective(Vector(5), bowl, [draw(1)])


@pytest.fixture
def points():
    return {name: {"w": draw(5, seed=seed)} for name, seed in (("a", 1), ("b", 2), ("c", 3))}


def frame(points):
    w1, w2, w3 = (point["w"] for point in points.values())
    dx = (w3 - w1).norm()
    u = (w3 - w1) / dx
    v = w2 - w1 - ((w2 - w1) @ u) * u
    return w1, w2, w3, u, v / v.norm()


def test_the_plane_is_the_exact_paraboloid(objective, points):
    result = plane(objective, points, size=9, margin=0.3)
    w1, _, _, u, v = frame(points)
    for y, row in zip(result.y, result.losses, strict=True):
        for x, loss in zip(result.x, row, strict=True):
            offset = w1 + x * u + y * v - CENTRE
            assert loss == pytest.approx(float(0.5 * offset @ CURVATURE @ offset), abs=1e-10)


def test_solutions_lie_on_the_grid_at_their_coordinates_with_their_own_losses(objective, points):
    result = plane(objective, points, size=8, margin=0.25)
    w1, w2, w3, u, v = frame(points)
    expected = [(0.0, 0.0), (float((w2 - w1) @ u), float((w2 - w1) @ v)), (float((w3 - w1) @ u), 0)]
    assert result.names == ("a", "b", "c")
    for name, found, wanted, loss in zip(
        result.names, result.coordinates, expected, result.solutions, strict=True
    ):
        assert found == pytest.approx(wanted, abs=1e-12)
        objective.model.w.data = points[name]["w"].clone()
        assert loss == objective.value()
        assert result.losses[result.y.index(found[1])][result.x.index(found[0])] == loss


def test_the_published_coordinates_of_a_right_triangle():
    # w1 at the origin, w3 at (1, 0): w2 = (0.25, 2) keeps its own coordinates.
    flat = Objective(Vector(2), lambda m, b: m.w.sum(), [draw(1)])
    corners = {"w1": [0.0, 0.0], "w2": [0.25, 2.0], "w3": [1.0, 0.0]}
    corners = {name: {"w": torch.tensor(value).double()} for name, value in corners.items()}
    result = plane(flat, corners, size=5, margin=0.5)
    assert result.coordinates == ((0.0, 0.0), (0.25, 2.0), (1.0, 0.0))
    assert (result.x[0], result.x[-1], result.y[0], result.y[-1]) == (-0.5, 1.5, -1.0, 3.0)
    assert result.batch_norm == "recalibrate"


def test_the_grid_reaches_a_second_solution_beyond_the_ends_of_the_first_side():
    flat = Objective(Vector(2), lambda m, b: m.w.sum(), [draw(1)])
    corners = {"w1": [0.0, 0.0], "w2": [-3.0, 1.0], "w3": [1.0, 0.0]}
    corners = {name: {"w": torch.tensor(value).double()} for name, value in corners.items()}
    result = plane(flat, corners, size=11, margin=0.1)
    assert result.x[0] == pytest.approx(-3.4)
    assert result.x[-1] == pytest.approx(1.4)
    assert result.solutions == (0.0, -2.0, 1.0)
    assert list(result.x) == sorted(set(result.x))


def test_lines_are_exact_parabolas_and_join_the_solutions(objective, points):
    found = lines(objective, points, steps=6)
    assert [line.names for line in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    on_plane = plane(objective, points, size=3).solutions
    for line in found:
        start, end = (points[name]["w"] for name in line.names)
        assert line.distance == pytest.approx(float((end - start).norm()), abs=1e-12)
        assert line.positions == pytest.approx([k / 6 for k in range(7)], abs=1e-15)
        for t, loss in zip(line.positions, line.losses, strict=True):
            offset = start + t * (end - start) - CENTRE
            assert loss == pytest.approx(float(0.5 * offset @ CURVATURE @ offset), abs=1e-10)
        own = dict(zip(points, on_plane, strict=True))
        assert (line.losses[0], line.losses[-1]) == (own[line.names[0]], own[line.names[1]])
        assert line.barrier == 0.0  # a convex loss has none


def test_the_barrier_is_the_most_above_the_straight_line_between_the_ends():
    # (w^2 - 1)^2 between -1 and 1 rises to 1 at 0; between 0 and 1 it falls from 1 to 0.
    objective = Objective(Vector(1), double_well, [draw(1)])
    ends = {name: {"w": torch.tensor([value])} for name, value in (("left", -1.0), ("right", 1.0))}
    (line,) = lines(objective, ends, steps=10)
    assert line.barrier == pytest.approx(1.0, abs=1e-12)
    assert max(line.losses) == line.losses[5]
    ends["left"] = {"w": torch.tensor([0.0])}
    (line,) = lines(objective, ends, steps=10)
    excess = [((t**2 - 1) ** 2) - (1 - t) for t in line.positions]
    assert line.barrier == pytest.approx(max(excess), abs=1e-12)


def test_a_nan_on_the_line_makes_the_barrier_nan():
    objective = Objective(Vector(1), lambda m, b: (m.w.abs() - 0.5).sqrt().sum(), [draw(1)])
    ends = {name: {"w": torch.tensor([value])} for name, value in (("left", -1.0), ("right", 1.0))}
    (line,) = lines(objective, ends, steps=8)
    assert math.isnan(line.losses[4])
    assert math.isnan(line.barrier)
    assert line.losses[0] == pytest.approx(0.5**0.5)


@pytest.mark.parametrize("third", [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
def test_identical_solutions_are_refused_and_the_distinct_ones_named(third):
    objective = Objective(Vector(3), lambda m, b: m.w.sum(), [draw(1)])
    values = {"a": [0.0, 0.0, 0.0], "b": [1.0, 2.0, 3.0], "c": third}
    points = {name: {"w": torch.tensor(value).double()} for name, value in values.items()}
    with pytest.raises(DegenerateError, match="same point in weight space") as caught:
        plane(objective, points)
    assert caught.value.distinct == ("a", "b")
    with pytest.raises(DegenerateError, match="no line"):
        lines(objective, points)
    kept = {name: points[name] for name in caught.value.distinct}
    assert len(lines(objective, kept)) == 1


def test_solutions_on_one_line_are_refused_up_to_rounding():
    a, b = draw(100, seed=1).float(), draw(100, seed=2).float()
    points = {"a": {"w": a}, "b": {"w": a + 0.3 * (b - a)}, "c": {"w": b}}
    objective = Objective(Vector(100).float(), lambda m, b: m.w.sum(), [draw(1)])
    with pytest.raises(DegenerateError, match="lie on one line") as caught:
        plane(objective, points)
    assert caught.value.distinct == ("a", "b", "c")
    assert len(lines(objective, points)) == 3


def test_buffers_do_not_count_as_distance():
    model = nn.BatchNorm1d(2).double()
    one = {name: value.clone() for name, value in model.state_dict().items()}
    other = {**one, "running_mean": one["running_mean"] + 5}
    objective = Objective(model, lambda m, b: m(b).mean(), [draw(4, 2)])
    with pytest.raises(DegenerateError):
        lines(objective, {"one": one, "other": other}, batch_norm="recalibrate")


def test_results_carry_the_batch_norm_policy_and_progress_is_told(objective, points):
    told = []
    keep = {"batch_norm": "frozen", "frozen_at": "b", "progress": lambda *a: told.append(a)}
    result = plane(objective, points, size=4, **keep)
    assert (result.batch_norm, result.frozen_at) == ("frozen", "b")
    total = len(result.x) * len(result.y)
    assert told == [(k + 1, total) for k in range(total)]
    told.clear()
    assert {(line.batch_norm, line.frozen_at) for line in lines(objective, points, **keep)} == {
        ("frozen", "b")
    }
    assert told[-1][0] == told[-1][1] == len(told)


def test_bad_requests_are_refused(objective, points):
    two = {name: points[name] for name in ("a", "b")}
    with pytest.raises(UsageError, match=r"plane needs three solutions.*found 2"):
        plane(objective, two)
    with pytest.raises(UsageError, match="margin"):
        plane(objective, points, margin=-0.1)
    with pytest.raises(UsageError, match="two solutions and one step"):
        lines(objective, {"a": points["a"]})
    with pytest.raises(UsageError, match="unknown batch-norm policy"):
        plane(objective, points, batch_norm="none")
    with pytest.raises(UsageError, match='"b" are not all finite'):
        plane(objective, {**points, "b": {"w": torch.full((5,), math.nan)}})
    with pytest.raises(UsageError, match='"b" lack "w"'):
        lines(objective, {**points, "b": {}})


def test_the_first_points_that_span_a_plane_are_found():
    model = Vector(2)
    values = {
        "origin": [0.0, 0.0],
        "again": [0.0, 0.0],
        "one": [1.0, 1.0],
        "two": [2.0, 2.0],
        "off": [1.0, 0.0],
        "late": [0.0, 1.0],
    }
    points = {name: {"w": torch.tensor(value).double()} for name, value in values.items()}
    assert spanning(model, points) == ("origin", "one", "off")
    del points["off"], points["late"]
    assert spanning(model, points) == ("origin", "one")
    assert spanning(model, {name: points[name] for name in ("origin", "again")}) == ("origin",)
    assert spanning(model, {}) == ()
