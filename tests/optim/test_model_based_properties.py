"""Proximal points, models and proxies equal their papers' loops, and keep what papers promise."""

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from finite_sums import CURVATURE, FiniteSum, Run, check_defaults, quadratic
from torch import Tensor

from reference.prox_linear import linear, minimum_by_pieces, prox_linear, truncated
from reference.prox_point import prox_point, proxy
from thalweg import optim
from thalweg.core.errors import UsageError

START = np.array([1.0, -2.0, 0.5, 0.3])
PROBLEM = FiniteSum()


LOOPS = {"prox-point": prox_point, "prox-linear": prox_linear, "proxy": proxy}


@pytest.mark.parametrize("rule", LOOPS)
def test_defaults_are_the_procedures(rule: str) -> None:
    check_defaults(rule, LOOPS[rule])


# Proximal point, and the proxy

PROX_RUNS = [
    {"lr": 0.5},
    {"lr": 5.0, "inner_steps": 7},
    {"lr": 2.0, "inner_steps": 25, "weight_decay": 0.4},
]
PROX_IDS = [f"{i}" for i in range(len(PROX_RUNS))]


@pytest.mark.parametrize("hyper", PROX_RUNS, ids=PROX_IDS)
def test_prox_point_equals_its_procedure(hyper: dict[str, Any]) -> None:
    drawn = PROBLEM.batches(4)
    procedure = prox_point(START, lambda t, x: PROBLEM.gradient(drawn(t), x), **hyper)
    run = Run.on("prox-point", PROBLEM, START, **hyper)
    for t, expected in enumerate(islice(procedure, 10), start=1):
        found = run.step(PROBLEM.closure(drawn(t), run.params))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("hyper", PROX_RUNS, ids=PROX_IDS)
def test_proxy_equals_its_procedure(hyper: dict[str, Any]) -> None:
    drawn, other = PROBLEM.batches(4), FiniteSum(seed=8)
    procedure = proxy(
        START,
        lambda t, x: PROBLEM.gradient(drawn(t), x),
        lambda x: other.gradient(other.everything, x),
        **hyper,
    )
    run = Run.on("proxy", PROBLEM, START, **hyper)
    run.optimizer.provide(proxy=other.closure(other.everything, run.params))
    for t, expected in enumerate(islice(procedure, 10), start=1):
        found = run.step(PROBLEM.closure(drawn(t), run.params))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def test_prox_point_of_a_quadratic_solves_its_system() -> None:
    hessian = np.array([[3.0, 1.0], [1.0, 2.0]])
    run = Run("prox-point", [1.0, -2.0], lr=0.7, inner_steps=200)
    p, matrix = run.params[0], torch.tensor(hessian)
    for _ in range(3):
        x = run.point
        found = run.step(lambda: 0.5 * p @ matrix @ p)
        np.testing.assert_allclose(found, np.linalg.solve(np.eye(2) + 0.7 * hessian, x), rtol=1e-9)


def test_prox_point_of_the_absolute_value_shrinks() -> None:
    # argmin |y - 1| + (y - x)^2 / (2 lr) moves by lr towards 1, and no further than there.
    run = Run("prox-point", [3.0], lr=0.6, inner_steps=40)
    p = run.params[0]
    path = [run.step(lambda: (p - 1).abs().sum())[0] for _ in range(5)]
    np.testing.assert_allclose(path, [2.4, 1.8, 1.2, 1.0, 1.0], atol=1e-6)


def test_proxy_of_nothing_is_sgd() -> None:
    run, drawn, x = Run.on("proxy", PROBLEM, START, lr=0.3), PROBLEM.batches(3), START
    run.optimizer.provide(proxy=lambda: sum(p.sum() for p in run.params) * 0.0)
    for t in range(1, 8):
        x = x - 0.3 * PROBLEM.gradient(drawn(t), x)
        found = run.step(PROBLEM.closure(drawn(t), run.params))
        np.testing.assert_allclose(found, x, rtol=0, atol=1e-13)


def test_proxy_that_is_the_loss_is_the_proximal_point_method() -> None:
    runs = [Run.on(rule, PROBLEM, START, lr=2.0) for rule in ("proxy", "prox-point")]
    closures = [PROBLEM.closure(PROBLEM.everything, run.params) for run in runs]
    runs[0].optimizer.provide(proxy=closures[0])
    for _ in range(6):
        one, two = (run.step(closure) for run, closure in zip(runs, closures, strict=True))
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-13)


def test_proxy_that_is_quadratic_preconditions() -> None:
    run = Run("proxy", [1.0, -2.0, 0.5], lr=2.0, inner_steps=600)
    p = run.params[0]
    run.optimizer.provide(proxy=quadratic(CURVATURE, p))
    x = run.point
    found = run.step(lambda: p.pow(4).sum())
    np.testing.assert_allclose(found, x - 4 * x**3 / (CURVATURE + 1 / 2.0), rtol=1e-9)


def test_proxy_needs_fewer_expensive_gradients_to_the_same_loss() -> None:
    # Least squares with condition number 1000. The proxy's Hessian is a tenth off, so that the
    # difference of the two losses is far smoother than either.
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    values = np.geomspace(0.1, 100, 6)
    hessian = basis * values @ basis.T
    cheap = basis * (values * (1 + 0.1 * rng.uniform(-1, 1, 6))) @ basis.T
    delta = np.abs(np.linalg.eigvalsh(hessian - cheap)).max()
    solution, x = rng.standard_normal(6), np.zeros(6)
    target, matrix, other = map(torch.tensor, (solution, hessian, cheap))

    def gap(x: np.ndarray) -> float:
        return 0.5 * float((x - solution) @ hessian @ (x - solution))

    plain, goal = 0, 1e-6 * gap(x)
    while gap(x) > goal:
        x = x - 2 / (values[0] + values[-1]) * hessian @ (x - solution)
        plain += 1
    run = Run("proxy", np.zeros(6), lr=1 / delta, inner_steps=150)
    p = run.params[0]
    run.optimizer.provide(proxy=lambda: 0.5 * p @ other @ p - p @ (matrix @ target))
    expensive = 0
    while gap(run.point) > goal:
        run.step(lambda: 0.5 * (p - target) @ matrix @ (p - target))
        expensive += 1
        assert 10 * expensive < plain


@pytest.mark.parametrize("rule", ["prox-point", "proxy", "prox-linear"])
def test_prox_rules_rest_without_a_rate_and_count_steps(rule: str) -> None:
    run = Run(rule, START[:-1], START[-1], lr=0.0)
    closure = PROBLEM.closure([0, 1], run.params)
    if rule == "proxy":
        run.optimizer.provide(proxy=closure)
    given = (lambda: (closure(), run.params[0] - 1)) if rule == "prox-linear" else closure
    np.testing.assert_array_equal(run.step(given), START)
    assert [run.optimizer.state[p]["step"] for p in run.params] == [1, 1]
    with pytest.raises(UsageError, match="inner_steps"):
        Run(rule, [1.0], inner_steps=0)


@pytest.mark.parametrize("rule", ["prox-point", "proxy"])
def test_prox_rules_keep_nan(rule: str) -> None:
    run = Run(rule, [1.0])
    p = run.params[0]
    if rule == "proxy":
        run.optimizer.provide(proxy=lambda: p.sum())
    run.step(lambda: p.sum() * float("nan"))
    assert np.isnan(run.point).all()


# Models


def _residuals(p: Tensor, rows: Tensor, b: Tensor) -> Tensor:
    return (rows @ p).square() - b


PHASES = np.random.default_rng(1).standard_normal((20, 4))
SIGNAL = np.array([0.5, -1.0, 0.25, 0.8])

MODEL_RUNS = [
    {"lr": 0.05},
    {"lr": 0.5, "weight_decay": 0.3},
    {"lr": 0.2, "outer": "hinge", "weight_decay": 0.2},
]


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("hyper", MODEL_RUNS, ids=["0", "1", "2"])
def test_prox_linear_equals_its_procedure(hyper: dict[str, Any], size: int) -> None:
    rng = np.random.default_rng(0)
    picks = [rng.choice(20, size, replace=False) for _ in range(8)]
    b = (PHASES @ SIGNAL) ** 2 + 0.1

    def inside(t: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = PHASES[picks[t - 1]]
        z = rows @ x
        return z**2 - b[picks[t - 1]], 2 * z[:, None] * rows

    run = Run("prox-linear", START, inner_steps=2000, **hyper)
    procedure = prox_linear(START, inside, **hyper)
    for pick, expected in zip(picks, procedure, strict=False):
        rows, values = torch.tensor(PHASES[pick]), torch.tensor(b[pick])

        def closure(rows: Tensor = rows, values: Tensor = values) -> tuple[Tensor, Tensor]:
            c = _residuals(run.params[0], rows, values)
            return c.abs().mean(), c.reshape(-1, 1)

        np.testing.assert_allclose(run.step(closure), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("model", ["truncated", "linear"])
@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("lr", [0.05, 2.0, 30.0])
def test_prox_linear_truncated_and_linear_equal_their_procedures(
    model: str, decay: float, lr: float
) -> None:
    drawn = PROBLEM.batches(3)

    def at(t: int, x: np.ndarray) -> tuple[float, np.ndarray]:
        return PROBLEM.loss(drawn(t), x), PROBLEM.gradient(drawn(t), x)

    reference = truncated if model == "truncated" else linear
    procedure = reference(START, at, lr=lr, weight_decay=decay)
    run = Run.on("prox-linear", PROBLEM, START, local_model=model, lr=lr, weight_decay=decay)
    for t, expected in enumerate(islice(procedure, 10), start=1):
        found = run.step(PROBLEM.closure(drawn(t), run.params))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("outer", ["abs", "hinge"])
@pytest.mark.parametrize("c", [-0.3, 0.2, 5.0])
def test_prox_linear_of_one_value_has_a_closed_form(outer: str, c: float) -> None:
    row = np.array([1.0, -2.0])
    run = Run("prox-linear", np.zeros(2), lr=0.5, outer=outer)
    p = run.params[0]

    def closure() -> tuple[Tensor, Tensor]:
        inside = torch.tensor(row) @ p + c
        return inside.abs(), inside

    low = -0.5 if outer == "abs" else 0.0
    expected = -np.clip(c / (row @ row), low, 0.5) * row
    np.testing.assert_allclose(run.step(closure), expected, rtol=0, atol=1e-15)
    if outer == "abs":
        short = Run("prox-linear", np.zeros(2), lr=0.5, local_model="truncated")
        p = short.params[0]
        np.testing.assert_allclose(short.step(closure), expected, rtol=0, atol=1e-15)


def test_prox_linear_sweeps_until_nothing_changes() -> None:
    rows, x = PHASES[:3], np.ones(4)
    targets = np.array([0.5, -0.2, 0.1])
    c = rows @ x - targets
    exact = minimum_by_pieces(x, c, rows, 3.0, 0.0, "abs")
    errors = []
    for sweeps in (1, 5, 2000):
        run = Run("prox-linear", x, lr=3.0, inner_steps=sweeps)

        def closure(run: Run = run) -> tuple[Tensor, Tensor]:
            inside = torch.tensor(rows) @ run.params[0] - torch.tensor(targets)
            return inside.abs().mean(), inside

        errors.append(np.abs(run.step(closure) - exact).max())
    assert errors[0] > errors[1] > 1e-9
    assert errors[2] < 1e-9
    assert Run("prox-linear", x).group["inner_steps"] == 50


def _phase_retrieval(rule: str, lr: float, steps: int = 600, **hyper: Any) -> float:
    """Return the distance to the signal or its negative, from single measurements."""
    start = SIGNAL + 0.4 * np.array([1.0, 0.5, -0.5, -0.3])
    run = Run(rule, start, lr=lr, **hyper)
    rows, b = torch.tensor(PHASES), torch.tensor((PHASES @ SIGNAL) ** 2)
    order = np.random.default_rng(0).integers(20, size=steps)
    for i in order:

        def closure(i: int = i) -> tuple[Tensor, Tensor]:
            c = _residuals(run.params[0], rows[i], b[i])
            return c.abs(), c

        run.step(closure)
        if not np.isfinite(run.point).all():
            return np.inf
    return min(np.linalg.norm(run.point - SIGNAL), np.linalg.norm(run.point + SIGNAL))


def test_prox_linear_retrieves_phases_to_machine_precision() -> None:
    assert _phase_retrieval("prox-linear", 0.1) < 1e-14
    assert _phase_retrieval("prox-linear", 0.1, local_model="truncated") < 1e-14


def test_prox_point_retrieves_phases() -> None:
    assert _phase_retrieval("prox-point", 0.1, steps=100, inner_steps=20) < 1e-3


def test_prox_linear_is_robust_to_the_step_size() -> None:
    rates = (0.03, 1.0, 30.0)
    for lr in rates:
        assert _phase_retrieval("prox-linear", lr) < 1e-10
    assert min(_phase_retrieval("prox-linear", lr, local_model="linear") for lr in rates) > 1e-2
    assert max(_phase_retrieval("prox-linear", lr, local_model="linear") for lr in rates) == np.inf


def test_prox_linear_moreau_gradient_falls_as_its_theorem_says() -> None:
    # F(x) = mean |x^2 - b| over two b is 2-weakly convex, and |x| <= 2.5 makes every term
    # 5-Lipschitz. With steps c / sqrt(T + 1), the squared gradient of its Moreau envelope for
    # 1 / 4, at a point drawn from the run of the linear model, is at most
    # 2 (gap + rho L^2 c^2) / (c sqrt(T + 1)).
    values, grid = np.array([0.6, 1.4]), np.linspace(-3, 3, 6001)
    whole = np.abs(grid[:, None] ** 2 - values).mean(1)

    def moreau(x: float) -> float:
        nearest = grid[np.argmin(whole + 2.0 * (grid - x) ** 2)]
        return (4.0 * (x - nearest)) ** 2

    def square(steps: int) -> float:
        run = Run("prox-linear", [2.5], lr=0.5 / np.sqrt(steps + 1), local_model="linear")
        draws, p = np.random.default_rng(0).choice(values, size=steps), run.params[0]
        path = [run.step(lambda b=b: (p.square() - b).abs().sum())[0] for b in draws]
        return float(np.mean([moreau(x) for x in path]))

    gap = np.abs(2.5**2 - values).mean() - whole.min()
    squares = {steps: square(steps) for steps in (20, 320)}
    for steps, found in squares.items():
        assert found <= 2 * (gap + 2 * 5**2 * 0.25) / (0.5 * np.sqrt(steps + 1))
    assert squares[320] < squares[20] / 2


def test_prox_linear_says_that_it_needs_outputs() -> None:
    assert optim.ProxLinear.needs_outputs


def test_prox_linear_refuses_a_loss_without_what_is_inside() -> None:
    run = Run("prox-linear", [1.0])
    with pytest.raises(UsageError, match="outputs"):
        run.step(lambda: run.params[0].sum())


@pytest.mark.parametrize("model", ["prox-linear", "truncated", "linear"])
def test_prox_linear_keeps_nan(model: str) -> None:
    run = Run("prox-linear", [1.0], local_model=model)
    p = run.params[0]
    run.step(lambda: (p.sum() * float("nan"), p * 1.0))
    assert np.isnan(run.point).all()


@pytest.mark.parametrize("model", ["prox-linear", "truncated", "linear"])
def test_prox_linear_rests_where_nothing_leads_on(model: str) -> None:
    run = Run("prox-linear", [1.0, 2.0], [3.0], local_model=model)
    p = run.params[0]
    found = run.step(lambda: ((p * 0.0 + 1).sum(), p * 0.0 + 1))
    np.testing.assert_array_equal(found, [1.0, 2.0, 3.0])
    # A negative value is no less than the truncated model's least one.
    if model == "truncated":
        np.testing.assert_array_equal(run.step(lambda: p.sum() - 9), [1.0, 2.0, 3.0])
