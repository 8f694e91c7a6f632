"""Directions and the surfaces that they span, against closed forms."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.landscape import Objective, random_directions, slice_along, surface


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.conv = nn.Conv2d(1, 3, 2)
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(12, 2)
        self.narrow = nn.Parameter(torch.randn(4, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).relu().flatten(1)) + self.narrow.mean()


def cross_entropy(model: Any, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def network(build: Any = Net) -> Objective:
    model = build()
    random = torch.Generator().manual_seed(0)
    x = torch.randn(30, 1, 3, 3, generator=random)
    y = torch.randint(2, (30,), generator=random)
    dtype = next(model.parameters()).dtype
    return Objective(model, cross_entropy, [(x.to(dtype), y)])


A = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)


class Point(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([[0.3, -0.7]], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.w[0]


def quadratic() -> Objective:
    def loss(model: Any, batch: Tensor) -> Tensor:
        return 0.5 * model(batch) @ A @ model(batch)

    return Objective(Point(), loss, [torch.zeros(1, 1)])


def test_a_quadratic_has_its_exact_parabola() -> None:
    w, d = torch.tensor([0.3, -0.7], dtype=torch.float64), torch.tensor([[2.0, 1.0]]).double()
    found = slice_along(quadratic(), [d], extent=2.0, steps=7)
    assert found.positions == tuple(k / 2 for k in range(-4, 5))
    expected = [float(0.5 * (w + a * d[0]) @ A @ (w + a * d[0])) for a in found.positions]
    assert found.losses == pytest.approx(expected, rel=1e-14)
    assert found.norm == pytest.approx(math.sqrt(5))
    assert found.normalisation == "given"


def test_a_quadratic_has_its_exact_surface() -> None:
    w = torch.tensor([0.3, -0.7], dtype=torch.float64)
    one, other = torch.tensor([[1.0, 0.5]]).double(), torch.tensor([[0.0, 2.0]]).double()
    found = surface(quadratic(), ([one], [other]), steps=4)
    for j, b in enumerate(found.y):
        for i, a in enumerate(found.x):
            x = w + a * one[0] + b * other[0]
            assert found.losses[j][i] == pytest.approx(float(0.5 * x @ A @ x), rel=1e-14)
    assert found.cosine == pytest.approx(0.5 / math.sqrt(1.25))


@pytest.mark.parametrize("batch_norm", ["frozen", "recalibrate"])
def test_the_centre_is_the_model(batch_norm: Any) -> None:
    objective = network()
    before = copy.deepcopy(objective.module.state_dict())
    found = surface(objective, steps=2, batch_norm=batch_norm)
    if batch_norm == "frozen":
        assert found.losses[1][1] == objective.value()
    assert found.losses[0] != found.losses[1]
    assert all(torch.equal(before[n], x) for n, x in objective.module.state_dict().items())
    assert found.batch_norm == batch_norm


def dot(one: list[Tensor], other: list[Tensor]) -> float:
    return float(sum((a.double() * b.double()).sum() for a, b in zip(one, other, strict=True)))


@pytest.mark.parametrize("normalisation", ["none", "layer", "filter", "adaptive"])
def test_directions_are_orthogonal(normalisation: Any) -> None:
    found = random_directions(network(), 3, normalisation)
    for i, one in enumerate(found):
        for other in found[:i]:
            assert abs(dot(one, other)) < 1e-6 * dot(one, one)


def test_filters_have_the_norms_of_the_weights() -> None:
    objective = network()
    for direction in random_directions(objective, 2):
        by_name = dict(zip(dict(objective.module.named_parameters()), direction, strict=True))
        for name, p in objective.module.named_parameters():
            d = by_name[name]
            if p.ndim > 1 and name != "narrow":
                sizes = [x.detach().flatten(1).norm(dim=1) for x in (d, p)]
                torch.testing.assert_close(sizes[0], sizes[1])
            else:
                assert float(d.abs().max()) == 0


def test_layers_have_the_norms_of_the_weights() -> None:
    objective = network()
    (direction,) = random_directions(objective, 1, "layer")
    for d, p in zip(direction, objective.module.parameters(), strict=True):
        assert float(d.norm()) == pytest.approx(float(p.detach().norm()) if p.ndim > 1 else 0.0)


def test_a_whole_direction_has_norm_1() -> None:
    (direction,) = random_directions(network(), 1, "none")
    assert dot(direction, direction) == pytest.approx(1)


def test_the_first_direction_does_not_depend_on_others() -> None:
    (one,), (first, _) = (random_directions(network(), count) for count in (1, 2))
    for a, b in zip(one, first, strict=True):
        torch.testing.assert_close(a, b)
    (other,) = random_directions(network(), 1, seed=1)
    assert not torch.equal(other[1], one[1])


class Rescaled(nn.Module):
    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.first, self.second = nn.Linear(9, 5, bias=False), nn.Linear(5, 2, bias=False)
        self.double()
        with torch.no_grad():
            # Every hidden unit by a factor of its own would change the rows of the second layer
            # unevenly; one factor for all is a rescaling of filters in both layers.
            self.first.weight.mul_(factor)
            self.second.weight.div_(factor)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x.flatten(1)).relu())


@pytest.mark.parametrize("normalisation", ["filter", "layer", "adaptive"])
def test_rescaled_networks_have_the_same_surface(normalisation: Any) -> None:
    found = [
        surface(network(lambda f=f: Rescaled(f)), normalisation=normalisation, steps=4)
        for f in (1.0, 8.0)
    ]
    for one, other in zip(found[0].losses, found[1].losses, strict=True):
        assert one == pytest.approx(other, rel=1e-12)


def test_other_batches_change_nothing() -> None:
    objective = network(lambda: Rescaled())
    x, y = objective.batches[0]
    cut = Objective(objective.model, cross_entropy, [(x[:7], y[:7]), (x[7:], y[7:])])
    pair = zip(surface(objective, steps=2).losses, surface(cut, steps=2).losses, strict=True)
    for one, other in pair:
        assert one == pytest.approx(other, rel=1e-13)


def test_frozen_parameters_stay() -> None:
    objective = network()
    objective.module.conv.requires_grad_(False)
    assert len(random_directions(objective, 1)[0]) == 5


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    surface(quadratic(), normalisation="none", steps=2, progress=lambda *one: told.append(one))
    assert told == [(i, 9) for i in range(1, 10)]


def test_impossible_requests_are_refused() -> None:
    objective = quadratic()
    d = [torch.ones(1, 2).double()]
    with pytest.raises(UsageError, match="filter"):
        random_directions(objective, normalisation="filtre")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="one direction"):
        random_directions(objective, 0)
    with pytest.raises(UsageError, match="do not fit"):
        random_directions(objective, 3)
    with pytest.raises(UsageError, match="parallel"):
        surface(objective, (d, [2 * d[0]]))
    with pytest.raises(UsageError, match="norm zero"):
        slice_along(objective, [0 * d[0]])
    with pytest.raises(UsageError, match="not finite"):
        slice_along(objective, [math.nan * d[0]])
    with pytest.raises(UsageError, match="of its shape"):
        slice_along(objective, [d[0][0]])
    with pytest.raises(UsageError, match="expected 2"):
        surface(objective, (d,))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="positive, finite extent"):
        surface(objective, extent=0)
    with pytest.raises(UsageError, match="frozen"):
        surface(objective, batch_norm="frosen")  # type: ignore[arg-type]
    flat = Objective(nn.BatchNorm1d(2), lambda m, b: m(b).mean(), [torch.randn(4, 2)])
    with pytest.raises(UsageError, match="two axes"):
        surface(flat, batch_norm="frozen")
    with torch.no_grad():
        objective.module.w.fill_(math.nan)
    with pytest.raises(UsageError, match="not all finite"):
        surface(objective)
    with objective.around([]) as loss_at:
        pass
    with pytest.raises(UsageError, match="closed"):
        loss_at(())
