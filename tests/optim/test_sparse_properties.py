"""Nonconvex penalties: sparse signals, exact zeros, and what the penalties promise."""

import numpy as np
import pytest
import torch
from rule_runs import Run

from reference.nonconvex_ag import concave
from thalweg import optim
from thalweg.core.errors import UsageError


def problem(seed: int = 0):
    """Return a sparse regression: design, response, truth, and 0.99 / L."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((100, 200))
    truth = np.zeros(200)
    truth[:5] = 3.0, -2.0, 2.5, -3.5, 2.0
    y = x @ truth + 0.3 * rng.standard_normal(100)
    lr = 0.99 / np.linalg.eigvalsh(x.T @ x / 100).max()
    return x, y, truth, float(lr)


def path(steps: int, **hyper):
    """Return the iterates of the rule on the regression."""
    x, y, _, lr = problem()
    own = Run("nonconvex-ag", [np.zeros(200)], lr=lr, **hyper)
    return [own.step([x.T @ (x @ own.points[0] - y) / 100])[0] for _ in range(steps)]


@pytest.mark.parametrize("penalty", ["scad", "mcp"])
def test_nonconvex_ag_recovers_the_signal_and_its_support(penalty: str) -> None:
    _, _, truth, _ = problem()
    found = path(600, penalty=penalty, penalty_weight=0.3)[-1]
    assert (np.flatnonzero(found) == np.arange(5)).all()
    # Large coefficients are not shrunk, as the lasso would.
    np.testing.assert_allclose(found[:5], truth[:5], atol=0.15)


def objective(w: np.ndarray, lam: float, a: float = 3.7) -> float:
    """Return the penalised loss with SCAD."""
    x, y, _, _ = problem()
    size = np.abs(w)
    middle = (2 * a * lam * size - size**2 - lam**2) / (2 * (a - 1))
    flat = np.where(size <= a * lam, middle, lam**2 * (a + 1) / 2)
    return float(np.sum((x @ w - y) ** 2) / 200 + np.where(size <= lam, lam * size, flat).sum())


def test_nonconvex_ag_is_ahead_of_proximal_gradient() -> None:
    x, y, _, lr = problem()
    lam, a = 0.3, 3.7
    w = np.zeros(200)
    slow = []
    for _ in range(300):
        size = np.abs(w)
        concave = -np.sign(w) * np.clip((size - lam) / (a - 1), 0, lam)
        z = w - lr * (x.T @ (x @ w - y) / 100 + concave)
        w = np.sign(z) * np.maximum(np.abs(z) - lr * lam, 0)
        slow.append(objective(w, lam))
    fast = [objective(w, lam) for w in path(300, penalty_weight=lam)]
    best = min(*slow, *fast)

    def steps_to(values: list[float]) -> int:
        return next(t for t, value in enumerate(values) if value < best + 1e-3 * (slow[0] - best))

    assert steps_to(fast) < steps_to(slow) / 1.5


def test_nonconvex_ag_without_a_penalty_is_accelerated_gradient() -> None:
    curvature = np.geomspace(1e-3, 1.0, 30)
    start = np.ones(30)
    own = Run("nonconvex-ag", [start], lr=0.99, penalty_weight=0.0, restart=False)
    for _ in range(200):
        points = own.step([curvature * own.points[0]])[0]
    plain = start * (1 - 0.99 * curvature) ** 200
    gap = 0.5 * np.sum(curvature * points**2)
    assert gap < 0.25 * 0.5 * np.sum(curvature * plain**2)
    # Nesterov's bound of this step size.
    assert gap <= 2 * np.sum(start**2) / (0.99 * 200**2)


def test_nonconvex_ag_at_rest_does_not_begin_again() -> None:
    own = Run("nonconvex-ag", [np.ones(3)], penalty_weight=0.0)
    alpha = 1.0
    for _ in range(6):
        own.step([np.zeros(3)])
        alpha = 2 / (1 + np.sqrt(1 + 4 / alpha**2))
        np.testing.assert_allclose(own.optimizer.param_groups[0]["alpha"], alpha, rtol=1e-14)
    np.testing.assert_array_equal(own.points, [np.ones(3)])


def test_nonconvex_ag_nullifies_everything_above_the_largest_correlation() -> None:
    x, y, _, _ = problem()
    weight = float(np.abs(x.T @ y).max() / 100) * 1.001
    assert not path(5, penalty_weight=weight)[-1].any()
    assert path(5, penalty_weight=weight * 0.99)[-1].any()


def test_nonconvex_ag_leaves_a_group_without_penalty_alone() -> None:
    w, b = torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(1))
    optimizer = optim.NonconvexAG(
        [{"params": [w]}, {"params": [b], "penalty_weight": 0.0}], lr=0.5, penalty_weight=10.0
    )
    w.grad, b.grad = torch.ones(3), torch.ones(1)
    optimizer.step()
    assert not w.detach().any()
    assert float(b.detach()) < 0


def penalty_at(*values: float, dtype: torch.dtype = torch.float64, **hyper) -> float:
    p = torch.nn.Parameter(torch.tensor(values, dtype=dtype))
    return optim.NonconvexAG([p], **hyper).penalty_value()


@pytest.mark.parametrize("weight", [0.3, 2.0])
def test_nonconvex_ag_s_penalties_are_flat_far_away(weight: float) -> None:
    for a in (1.5, 3.7):
        for x in (a * weight, -a * weight, 100.0):
            found = penalty_at(x, penalty_weight=weight, a=a)
            assert found == pytest.approx(weight**2 * (a + 1) / 2, rel=1e-14)
    for gamma in (0.5, 2.0):
        for x in (gamma * weight, -gamma * weight, 100.0):
            found = penalty_at(x, penalty="mcp", penalty_weight=weight, gamma=gamma)
            assert found == pytest.approx(gamma * weight**2 / 2, rel=1e-14)


@pytest.mark.parametrize("penalty", ["scad", "mcp"])
def test_nonconvex_ag_s_penalties_have_the_slopes_that_it_follows(penalty: str) -> None:
    # The integral of lambda sign(x) + the concave part's gradient, from 0 on.
    weight, a, gamma = 0.4, 2.6, 1.7
    grid = np.linspace(0, 2, 200001)
    slopes = weight + concave(grid, penalty, weight, a, gamma)
    integral = np.concatenate([[0], np.cumsum((slopes[1:] + slopes[:-1]) / 2)]) * grid[1]
    hyper = {"penalty": penalty, "penalty_weight": weight, "a": a, "gamma": gamma}
    for i in (0, 10000, 39000, 41000, 67000, 90000, 150000):
        for sign in (1, -1):
            assert penalty_at(sign * grid[i], **hyper) == pytest.approx(integral[i], abs=1e-9)


def test_nonconvex_ag_adds_the_penalties_of_all_groups() -> None:
    p = [torch.nn.Parameter(torch.tensor(x, dtype=torch.float64)) for x in ([9.0, 9.0], [[9.0]])]
    free = torch.nn.Parameter(torch.full((3,), 9.0))
    groups = [
        {"params": p[:1]},
        {"params": p[1:], "penalty": "mcp", "gamma": 3.0},
        {"params": [free], "penalty_weight": 0.0},
    ]
    optimizer = optim.NonconvexAG(groups, penalty_weight=0.5, a=3.0)
    found = optimizer.penalty_value()
    assert isinstance(found, float)
    assert found == pytest.approx(2 * 0.25 * 2 + 3 * 0.25 / 2, rel=1e-14)
    # Sums of 16-bit weights are taken in 32.
    values = [1e-2] * 3000
    found = penalty_at(*values, penalty_weight=1.0, dtype=torch.bfloat16)
    assert found == pytest.approx(30.0, rel=2e-3)


@pytest.mark.parametrize("penalty", ["scad", "mcp"])
def test_nonconvex_ag_lowers_the_objective(penalty: str) -> None:
    x, y, _, lr = problem()
    own = Run("nonconvex-ag", [np.zeros(200)], lr=lr, penalty=penalty, penalty_weight=0.2)
    objectives = []
    for _ in range(300):
        left = x @ own.points[0] - y
        objectives.append(left @ left / 200 + own.optimizer.penalty_value())
        own.step([x.T @ left / 100])
    assert objectives[0] == pytest.approx(y @ y / 200, rel=1e-14)
    assert objectives[-1] < 0.1 * objectives[0]
    assert objectives[-1] == pytest.approx(min(objectives), rel=1e-6)


def test_nonconvex_ag_refuses_what_its_penalties_cannot_be() -> None:
    p = [torch.nn.Parameter(torch.ones(2))]
    for hyper in (
        {"a": 1.0},
        {"gamma": 0.0},
        {"penalty_weight": -1.0},
        {"lr": 3.0},
        {"lr": 2.1, "penalty": "mcp"},
        {"penalty": "lasso"},
    ):
        with pytest.raises(UsageError, match=next(iter(hyper))):
            optim.NonconvexAG(p, **hyper)
