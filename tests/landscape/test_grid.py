"""Grids that grow from coarse to fine, stop, and go on."""

import gc
import itertools
import math

import pytest
import torch
from torch import nn

from thalweg.core.errors import UsageError
from thalweg.landscape import Objective, Surface, plane, surface
from thalweg.landscape.grid import order


class Point(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.3, -0.7], dtype=torch.float64))


def bowl(model, batch):
    return (model.w * model.w).sum() + batch.sum()


def subject(loss=bowl) -> Objective:
    return Objective(Point(), loss, [torch.zeros(1, 1)])


def axes():
    return [torch.eye(2, dtype=torch.float64)[:1].T[:, 0]], [torch.tensor([0.0, 1.0]).double()]


def evaluate(objective, **options):
    return surface(objective, axes(), extent=2.0, steps=16, **options)


def test_every_point_comes_once_and_the_coarse_ones_first():
    x, y = range(17), range(9)
    found = list(order(x, y, [(5, 4)]))
    assert len(found) == len(set(found)) == 17 * 9
    coarse = {(j, i) for j in (0, 2, 4, 6, 8) for i in (0, 2, 4, 5, 6, 8, 10, 12, 14, 16)}
    assert set(found[: len(coarse)]) == coarse


class Clock:
    """Time that passes with every look at it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_a_budget_leaves_the_coarse_grid_and_the_rest_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("thalweg.landscape.grid.time.monotonic", Clock())
    whole = evaluate(subject())
    assert whole.complete
    assert whole.finest() == (list(range(17)), list(range(17)))
    kept = tmp_path / "kept.npz"
    part = evaluate(subject(), seconds=100, keep=kept)
    assert part.evaluated == 100
    assert not part.complete
    columns, rows = part.finest()
    assert columns == rows == list(range(0, 17, 2))
    missing = 0
    for known, some in zip(whole.losses, part.losses, strict=True):
        for one, other in zip(known, some, strict=True):
            missing += math.isnan(other)
            assert math.isnan(other) or one == other
    assert missing == 17 * 17 - 100
    told = []
    final = evaluate(subject(), keep=kept, progress=lambda *one: told.append(one))
    assert told[0] == (101, 289)
    assert final == whole == Surface.load(kept)
    counted = Counted()
    assert evaluate(subject(counted), keep=kept) == whole
    assert counted.calls == 2  # the objective's own check, and nothing else


class Counted:
    def __init__(self, stop: int | None = None) -> None:
        self.calls, self.stop = 0, stop

    def __call__(self, model, batch):
        self.calls += 1
        if self.calls == self.stop:
            raise KeyboardInterrupt
        return bowl(model, batch)


def test_what_was_evaluated_is_kept_when_it_is_interrupted(tmp_path):
    kept = tmp_path / "kept.npz"
    stopped = subject(Counted(stop=52))
    with pytest.raises(KeyboardInterrupt):
        evaluate(stopped, keep=kept)
    assert Surface.load(kept).evaluated == 49
    assert stopped.module.w.tolist() == [0.3, -0.7]
    assert evaluate(subject(), keep=kept) == evaluate(subject())


def test_another_surface_is_not_continued(tmp_path):
    kept = tmp_path / "kept.npz"
    evaluate(subject(), seconds=1e-9, keep=kept)
    with pytest.raises(UsageError, match="another surface: x, y differ"):
        surface(subject(), axes(), extent=1.0, steps=16, keep=kept)
    with pytest.raises(UsageError, match="also differ"):
        evaluate(one := subject(), keep=kept, also={"again": one})
    with pytest.raises(UsageError, match="other weights or data"):
        evaluate(subject(lambda m, b: bowl(m, b) + 1), keep=kept)
    with pytest.raises(UsageError, match="time budget"):
        evaluate(subject(), seconds=0)


def test_nan_stays_nan_and_counts_as_evaluated():
    def holed(model, batch):
        return bowl(model, batch) * (math.nan if model.w[0] > 1 else 1)

    found = evaluate(subject(holed))
    assert found.complete
    for row in found.losses:
        for a, loss in zip(found.x, row, strict=True):
            assert math.isnan(loss) == (0.3 + a > 1)


def test_the_plane_through_three_goes_on_too(tmp_path):
    points = {
        n: {"w": torch.tensor(w).double()}
        for n, w in (("a", [0.0, 0.0]), ("b", [1.0, 2.0]), ("c", [3.0, 0.5]))
    }
    kept = tmp_path / "plane"
    part = plane(subject(), points, seconds=1e-9, keep=kept)
    assert part.evaluated == 1
    assert math.isnan(part.solutions[0])
    final = plane(subject(), points, keep=kept)
    assert final == plane(subject(), points)
    assert final.solutions == pytest.approx((0, 5, 9.25), abs=1e-12)
    assert (tmp_path / "plane.npz").exists()


def test_memory_does_not_grow_with_the_grid():
    alive = []

    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(100, 100))

    calls = itertools.count()

    def count(model, batch):
        if next(calls) % 10 == 9:  # it takes a while
            gc.collect(0)
            alive.append(sum(issubclass(type(x), torch.Tensor) for x in gc.get_objects()))
        return model.w.square().mean()

    objective = Objective(Wide(), count, [torch.zeros(1, 1)])
    surface(objective, steps=4)
    few = max(alive)
    alive.clear()
    surface(objective, steps=10)
    assert max(alive) <= few
