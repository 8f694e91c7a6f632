"""Curves between solutions, where the valley is known."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.landscape import Curve, DegenerateError, Objective, connect, plane, profile
from thalweg.landscape.curve import coefficients


class Ring(nn.Module):
    """A point of the plane; the loss is zero on the unit circle, and 1 in its centre."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, 0.0], dtype=torch.float64))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        return (self.w.square().sum() - 1).square() + 0 * x.sum()


def loss(model: Any, batch: Tensor) -> Tensor:
    return model(batch)


def weights(angle: float) -> dict[str, Tensor]:
    # Not opposite ends: on the line through the centre nothing says to which side to bend.
    point = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    return {"w": point, "calls": torch.zeros(())}


ENDS = (weights(0.0), weights(2.8))
BATCH = torch.zeros(3, 1)


def trained(kind: Any, bends: int, steps: int = 400, **words: Any) -> Curve:
    return connect(
        Ring(), loss, ENDS, lambda step: BATCH, steps=steps, kind=kind, bends=bends, **words
    )


@pytest.mark.parametrize(("kind", "bends"), [("bezier", 1), ("bezier", 2), ("chain", 1)])
def test_the_curve_goes_around_the_hill(kind: Any, bends: int) -> None:
    objective = Objective(Ring(), loss, [BATCH])
    straight = profile(objective, Curve("chain", ENDS))
    assert straight.barrier > 0.9
    found = profile(objective, trained(kind, bends))
    assert found.barrier < 0.35 * straight.barrier
    assert found.losses[0] == pytest.approx(0, abs=1e-15)
    assert found.lengths[-1] > straight.lengths[-1]
    assert straight.lengths[-1] == pytest.approx(2 * math.sin(1.4))


def test_coefficients_are_those_of_the_paper() -> None:
    assert coefficients("bezier", 3, 0.25) == pytest.approx((0.5625, 0.375, 0.0625))
    assert coefficients("chain", 3, 0.25) == pytest.approx((0.5, 0.5, 0.0))
    for kind in ("bezier", "chain"):
        for count in (2, 3, 5):
            for t in (0.0, 0.1, 0.5, 0.9, 1.0):
                assert sum(coefficients(kind, count, t)) == pytest.approx(1)  # type: ignore[arg-type]
            assert coefficients(kind, count, 0.0) == (1.0, *[0.0] * (count - 1))  # type: ignore[arg-type]
            assert coefficients(kind, count, 1.0) == (*[0.0] * (count - 1), 1.0)  # type: ignore[arg-type]


def test_a_step_is_the_formula() -> None:
    """One bend and one step by hand, weight decay on the mixed weights."""
    from thalweg.core.seeds import generator

    t = float(torch.rand(1, generator=generator(3, "curve"), dtype=torch.float64))
    a, b = (one["w"] for one in ENDS)
    middle = (a + b) / 2
    c = coefficients("bezier", 3, t)
    here = c[0] * a + c[1] * middle + c[2] * b
    slope = 4 * (here.square().sum() - 1) * here
    expected = middle - 0.1 * c[1] * (slope + 0.2 * here)
    found = trained("bezier", 1, steps=1, lr=0.1, weight_decay=0.2, seed=3).points
    torch.testing.assert_close(found[1]["w"], expected)
    assert found[0] is ENDS[0]
    assert found[2] is ENDS[1]


def test_a_profile_of_a_line() -> None:
    """On the loss w0 the profile of a segment is a straight line, and its mean is known."""
    objective = Objective(Ring(), lambda m, b: m.w[0] + 0 * b.sum(), [BATCH])
    found = profile(objective, Curve("chain", ENDS), points=5)
    first, last = (float(one["w"][0]) for one in ENDS)
    assert found.losses == pytest.approx([first + (last - first) * k / 4 for k in range(5)])
    assert found.mean == pytest.approx((first + last) / 2)
    assert found.barrier == 0


def test_nan_is_kept() -> None:
    objective = Objective(Ring(), lambda m, b: (m.w[0] - 0.5).sqrt() + 0 * b.sum(), [BATCH])
    assert math.isnan(profile(objective, Curve("chain", ENDS)).barrier)


def test_the_model_stays_as_it_was() -> None:
    model = Ring().eval()
    before = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    told: list[tuple[int, int]] = []
    connect(model, loss, ENDS, lambda step: BATCH, steps=3, progress=lambda *one: told.append(one))
    assert all(torch.equal(before[name], x) for name, x in model.state_dict().items())
    assert not model.training
    assert model.w.grad is None
    assert torch.equal(random, torch.get_rng_state())
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_model_that_makes_and_replaces_buffers() -> None:
    class Counting(Ring):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("cache", None, persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            self.calls = self.calls + 1
            self.cache = torch.ones(1)
            return super().forward(x)

    model = Counting().eval()
    calls = model.calls
    with torch.no_grad():
        connect(model, loss, ENDS, lambda step: BATCH, steps=2)
        Objective(model, loss, [BATCH]).value()
    assert model.calls is calls
    assert float(calls) == 0
    assert not model.training


def test_the_same_seed_gives_the_same_curve() -> None:
    one, same, other = (trained("chain", 2, steps=20, seed=s).points[1]["w"] for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_tied_and_frozen_weights_stay_tied_and_frozen() -> None:
    class Tied(nn.Module):
        def __init__(self, x: float) -> None:
            super().__init__()
            self.one = nn.Linear(2, 2, bias=False)
            self.other = nn.Linear(2, 2, bias=False)
            self.other.weight = self.one.weight
            self.fixed = nn.Parameter(torch.ones(2), requires_grad=False)
            nn.init.constant_(self.one.weight, x)

        def forward(self, x: Tensor) -> Tensor:
            return (self.other(self.one(x)) * self.fixed).square().mean()

    ends = tuple(Tied(x).state_dict() for x in (1.0, 2.0))
    found = connect(Tied(0.0), loss, ends, lambda step: torch.ones(3, 2), steps=2, lr=0.001)  # type: ignore[arg-type]
    middle = found.points[1]
    assert torch.equal(middle["one.weight"], middle["other.weight"])
    assert torch.equal(middle["fixed"], torch.ones(2))


def test_impossible_curves_are_refused() -> None:
    with pytest.raises(UsageError, match="bezier"):
        trained("bezir", 1)
    with pytest.raises(UsageError, match="needs a bend"):
        trained("bezier", 0)
    with pytest.raises(DegenerateError, match="same point"):
        connect(Ring(), loss, (ENDS[0], ENDS[0]), lambda step: BATCH, steps=1)
    with pytest.raises(UsageError, match="two points"):
        profile(Objective(Ring(), loss, [BATCH]), Curve("chain", ENDS), points=1)
    with pytest.raises(UsageError, match="loss is nan at step 0"):
        connect(Ring(), lambda m, b: m(b) * math.nan, ENDS, lambda step: BATCH, steps=1)


def test_a_curve_is_drawn_where_it_lies() -> None:
    """One with a single bend lies on the plane of its points; another keeps its distance."""

    class Space(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(3, dtype=torch.float64))

    def point(*w: float) -> dict[str, Tensor]:
        return {"w": torch.tensor(w, dtype=torch.float64)}

    objective = Objective(Space(), lambda m, b: m.w.square().sum(), [BATCH])
    points = {"a": point(0, 0, 0), "b": point(1, 2, 0), "c": point(4, 0, 0)}
    flat = Curve("bezier", tuple(points.values()))
    high = Curve("chain", (points["a"], point(1, 1, 3), points["c"]))
    found = plane(objective, points, size=3, curves={"flat": flat, "high": high})
    one, other = found.trails
    assert one.smooth
    for k in (0, 25, 60, 100):
        c = flat.coefficients(k / 100)
        assert (one.x[k], one.y[k]) == pytest.approx((c[1] + 4 * c[2], 2 * c[1]), abs=1e-12)
        assert one.residuals[k] == pytest.approx(0, abs=1e-7)
        bend = high.coefficients(k / 100)[1]
        assert other.residuals[k] == pytest.approx(3 * bend, abs=1e-7)
    assert len(found.plot(view="contour").axes) == 2
