"""Sharpness against closed forms."""

import copy
import math

import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.landscape import Objective, epsilon_sharpness, sharpness

A = torch.tensor([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 1.0]], dtype=torch.float64)
W = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


class Point(nn.Module):
    def __init__(self, w: Tensor = W) -> None:
        super().__init__()
        self.w = nn.Parameter(w.clone())

    def forward(self, x: Tensor) -> Tensor:
        return self.w + 0 * x.sum()


def quadratic(w: Tensor = W) -> Objective:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        w = model(batch)
        return 0.5 * w @ A @ w

    return Objective(Point(w), loss, [torch.zeros(2, 1), torch.zeros(3, 1)])


def test_the_euclidean_ball() -> None:
    g = A @ W
    e = 0.3 * g / g.norm()
    found = sharpness(quadratic(), 0.3)
    assert found.rise == pytest.approx(float(g @ e + 0.5 * e @ A @ e))
    assert found.loss == pytest.approx(float(0.5 * W @ A @ W))
    assert found.gradient_norm == pytest.approx(float(g.norm()))
    torch.testing.assert_close(found.displacement, e)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("adaptive", [False, True])
def test_any_norm(p: float, adaptive: bool) -> None:
    g = A @ W
    scale = W.abs() + 0.1 if adaptive else torch.ones(3).double()
    found = sharpness(quadratic(), 0.2, p=p, adaptive=adaptive, eta=0.1)
    e = found.displacement
    q = {1.0: math.inf, math.inf: 1.0}.get(p) or p / (p - 1)
    dual = float(torch.linalg.vector_norm(scale * g, q))
    assert float(torch.linalg.vector_norm(e / scale, p)) == pytest.approx(0.2)
    assert float(g @ e) == pytest.approx(0.2 * dual)  # Hoelder's bound is reached
    assert found.gradient_norm == pytest.approx(dual)


def test_more_steps_find_the_worst_point() -> None:
    """Power iteration at a minimum: the rise is half the largest eigenvalue times rho squared."""
    start = 1e-6 * torch.tensor([1.0, 1.0, 1.0]).double()
    found = sharpness(quadratic(start), 0.5, ascent_steps=60)
    largest = float(torch.linalg.eigvalsh(A)[-1])
    assert found.rise == pytest.approx(0.5 * largest * 0.25, rel=1e-4)
    assert sharpness(quadratic(start), 0.5).rise < found.rise


def test_at_a_stationary_point_nothing_rises_to_first_order() -> None:
    found = sharpness(quadratic(torch.zeros(3).double()), 0.5)
    assert found.rise == found.gradient_norm == 0


class Rescaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second = nn.Linear(3, 5, bias=False), nn.Linear(5, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu())


def test_adaptive_sharpness_does_not_see_rescaling() -> None:
    model = Rescaled().double()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.first.weight.mul_(10)
        other.second.weight.div_(10)
    random = torch.Generator().manual_seed(0)
    x = torch.randn(20, 3, generator=random, dtype=torch.float64)
    y = torch.randint(2, (20,), generator=random)

    def loss(m: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(m(batch[0]), batch[1])

    one, two = (Objective(m, loss, [(x, y)]) for m in (model, other))
    for p in (2.0, math.inf):
        found = [sharpness(o, 0.1, p=p, adaptive=True, ascent_steps=3).rise for o in (one, two)]
        assert found[0] == pytest.approx(found[1], rel=1e-9)
    assert sharpness(one, 0.1).rise != pytest.approx(sharpness(two, 0.1).rise, rel=0.1)


def test_the_box() -> None:
    """On a linear loss the worst corner is known; L-BFGS-B must reach it."""
    slope = torch.tensor([1.0, -2.0, 0.0]).double()
    objective = Objective(Point(), lambda m, b: m(b) @ slope, [torch.zeros(1, 1)])
    found = epsilon_sharpness(objective, 0.01)
    box = 0.01 * (W.abs() + 1).numpy()
    expected = linprog(-slope.numpy(), bounds=[(-b, b) for b in box])
    assert found.rise == pytest.approx(-expected.fun)
    assert found.gradient_norm * 0.01 == pytest.approx(found.rise)


def test_the_box_of_a_quadratic() -> None:
    found = epsilon_sharpness(quadratic(), 0.05, iterations=50)
    box = 0.05 * (W.abs() + 1)
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * 3) * box
    rises = [float((A @ W) @ e + 0.5 * e @ A @ e) for e in corners]  # convex: a corner is worst
    assert found.rise == pytest.approx(max(rises))


def test_nan_is_told() -> None:
    def loss(m: nn.Module, batch: Tensor) -> Tensor:
        w = m(batch)
        return w.sum() - (1.01 - w[0]).sqrt()

    objective = Objective(Point(), loss, [torch.zeros(1, 1)])
    assert math.isnan(sharpness(objective, 1.0, adaptive=True).rise)
    assert math.isnan(epsilon_sharpness(objective, 0.1).rise)


def test_the_model_stays_as_it_was() -> None:
    objective = quadratic()
    before = copy.deepcopy(objective.module.state_dict())
    version = objective.module.w._version
    sharpness(objective, 1.0, ascent_steps=3)
    epsilon_sharpness(objective)
    assert torch.equal(before["w"], objective.module.w)
    assert objective.module.w._version == version
    assert objective.module.w.grad is None


@pytest.mark.parametrize(
    "words", [{"rho": -1}, {"rho": math.inf}, {"rho": 1, "p": 0.5}, {"rho": 1, "ascent_steps": 0}]
)
def test_impossible_arguments_are_refused(words: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="sharpness needs"):
        sharpness(quadratic(), **words)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="positive, finite epsilon"):
        epsilon_sharpness(quadratic(), 0.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_measured_in_single(dtype: torch.dtype) -> None:
    model = nn.Linear(2, 1, bias=False).to(dtype)
    model.weight.data = torch.tensor([[0.5, -1.0]], dtype=dtype)
    batches = [torch.eye(2, dtype=dtype)[:1], torch.eye(2, dtype=dtype)]
    objective = Objective(model, lambda m, x: m(x).float().square().sum(), batches)
    x = torch.tensor([0.5, -1.0])
    g = 2 * x * torch.tensor([1.0, 2 / 3])
    for found in (sharpness(objective, 0.1), epsilon_sharpness(objective)):
        assert found.displacement.dtype == torch.float32
    torch.testing.assert_close(sharpness(objective, 0.1).displacement, 0.1 * g / g.norm())
