"""What papers and textbooks say that Newton's kin do."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from curved_runs import (
    ENTROPY,
    SQUARES,
    Descent,
    assert_close,
    batches,
    evaluated,
    logistic,
    logistic_data,
    optimum_of,
    path_of,
    scaled,
    start,
    value_at,
)
from torch import Tensor, nn

from reference.curved import Array, Curved
from thalweg.core.errors import UsageError
from thalweg.engine import second_order
from thalweg.engine.second_order import Probes

# Newton


def test_newton_doubles_the_digits_near_the_optimum_of_logistic_regression() -> None:
    loss = logistic(*logistic_data())
    best = Descent("newton", np.zeros(4), ((4,),))
    for _ in range(12):
        optimum = best.step(loss)
    run = Descent("newton", np.zeros(4), ((4,),))
    errors = [np.linalg.norm(run.step(loss) - optimum) for _ in range(6)]
    digits = [-math.log10(max(error, 1e-17)) for error in errors]
    near = [i for i in range(5) if 1 < digits[i] < 7]
    assert len(near) >= 2
    for i in near:
        assert digits[i + 1] > 1.9 * digits[i]
    assert errors[-1] < 1e-14


def test_newton_goes_down_where_the_hessian_is_indefinite() -> None:
    run = Descent("newton", np.array([0.1, 0.3]), ((2,),))

    def loss(w: Tensor) -> Tensor:
        return (w[0] ** 2 - 1) ** 2 + (w[1] ** 2 - 1) ** 2

    for _ in range(12):
        found = run.step(loss)
    assert_close(np.abs(found), 1.0, 1e-12)


def _along(loss: Any, slug: str = "newton", **hyper: Any) -> float:
    """Return how far a rule goes from 0 along a line."""
    return float(Descent(slug, np.zeros(1), ((1,),), **hyper).step(lambda w: loss(w[0]))[0])


def test_newton_halves_its_step_until_the_loss_falls_by_1e_4_of_the_slope() -> None:
    for decrease, expected in ((1.05e-4, 1.0), (0.95e-4, 0.5)):
        found = _along(lambda w, c=0.5 - decrease: -w + 0.5 * w**2 + c * w**3)
        assert abs(found - expected) < 1e-14


def test_newton_halves_its_step_29_times_at_most() -> None:
    assert _along(lambda w: torch.where(w > 0, 1.0, 0.5 * w**2 - w)) == 2.0**-29


def test_newton_takes_rises_by_rounding_for_falls() -> None:
    found = _along(lambda w: 1 + 0.5e-20 * (w - 1) ** 2 + 2e-16 * (w > 0.5))
    assert abs(found - 1) < 1e-9


def test_newton_is_nan_where_the_hessian_is_not_finite() -> None:
    assert math.isnan(_along(lambda w: w**1.5 + w))
    found = Descent("newton", np.zeros(2), ((2,),)).step(lambda w: (w**1.5).sum() + w[0])
    assert np.isnan(found).all()


# L-BFGS


def test_lbfgs_reaches_scipys_optimum_of_logistic_regression() -> None:
    loss = logistic(*logistic_data())
    run = Descent("lbfgs", np.zeros(4), ((2,), (2,)), tolerance_grad=1e-12, tolerance_change=0)
    for _ in range(3):
        found = run.step(loss)
    np.testing.assert_allclose(found, optimum_of(loss), atol=1e-8)


def test_lbfgs_reaches_scipys_optimum_of_rosenbrock() -> None:
    begin = np.array([-1.2, 1.0, -0.5, 0.8])
    reached = scipy.optimize.minimize(
        scipy.optimize.rosen,
        begin,
        jac=scipy.optimize.rosen_der,
        method="L-BFGS-B",
        options={"gtol": 1e-12, "ftol": 0},
    )

    def rosenbrock(w: Tensor) -> Tensor:
        return (100 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2).sum()

    run = Descent("lbfgs", begin, ((4,),), tolerance_grad=1e-12, tolerance_change=0, max_iter=25)
    for _ in range(3):
        found = run.step(rosenbrock)
    np.testing.assert_allclose(found, reached.x, atol=1e-7)
    assert _float(rosenbrock, found) <= 1e-20


def _float(loss: Any, w: Array) -> float:
    return float(loss(torch.tensor(w)))


def test_lbfgs_keeps_no_pair_of_negative_curvature() -> None:
    run = Descent("lbfgs", np.array([0.3, -0.2]), ((2,),), max_iter=1, line_search_fn=None)
    run.step(lambda w: -w.square().sum())
    assert run.number("pairs") == 0
    run.step(lambda w: w.square().sum())
    assert run.number("pairs") == 1


def test_lbfgs_asks_for_curvature_whatever_the_scale_of_the_loss() -> None:
    hyper = {"max_iter": 1, "line_search_fn": None, "tolerance_grad": 0.0}
    for curvature, pairs in ((0.0, 0), (1e-12, 1), (1e12, 1)):
        run = Descent("lbfgs", np.array([0.3, -0.2]), ((2,),), **hyper)
        run.step(lambda w, c=curvature: w.sum() if c == 0 else c * w.square().sum())
        assert run.number("pairs") == pairs


def _evaluations(slope: float, value: float = 1.0, **hyper: Any) -> int:
    """Return how often a step of five iterations on ``value slope w`` looks."""
    run, calls = Descent("lbfgs", np.zeros(1), ((1,),), max_iter=5, line_search_fn=None, **hyper), 0

    def line(w: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return slope * (w - (1 - value) * w.detach()).sum()

    run.step(line)
    return calls


def test_lbfgs_ends_where_the_gradient_the_steps_or_the_loss_s_changes_are_small() -> None:
    # A slope and entries' steps of just what is tolerated; each change of the loss is 1 there.
    assert _evaluations(0.5, tolerance_grad=0.5) == 1
    assert _evaluations(0.5, tolerance_grad=0.4) == 6
    assert _evaluations(2.0**10, lr=2.0**-10, tolerance_change=2.0**-10) == 2
    assert _evaluations(2.0**10, lr=2.0**-10, tolerance_change=2.0**-11) == 6
    # The loss has to change by less; here it does not change at all.
    assert _evaluations(0.5, value=0.0, tolerance_change=0.0) == 6
    assert _evaluations(0.5, value=0.0, tolerance_change=1e-9) == 2


def test_lbfgs_begins_with_its_rate_or_less_where_the_gradient_is_large() -> None:
    for w, rate in ((np.array([0.1, -0.2]), 0.5), (np.array([3.0, -2.0]), 0.5 / 5)):
        run = Descent("lbfgs", w, ((2,),), lr=0.5, max_iter=1, line_search_fn=None)
        assert_close(run.step(scaled([1, 1])), (1 - rate) * w, 1e-14)


@pytest.mark.parametrize(
    ("slope", "level", "change", "expected"),
    [
        (1.0, 0.0, -1.1e-4, 1),
        (1.0, 0.0, -0.9e-4, 2),
        (1.0, 0.0, math.inf, 25),
        # The neighbours of 1e8 are 1.5e-8 away: the next may be rounding, the third is not.
        (1e-6, 1e8, 1.5e-8, 1),
        (1e-6, 1e8, 4.5e-8, 25),
    ],
)
def test_lbfgs_searches_for_a_fall_of_a_ten_thousandth_of_the_slope_in_25_places(
    slope: float, level: float, change: float, expected: int
) -> None:
    # The first rate is 1; the loss has one value wherever the search looks.
    run, calls = Descent("lbfgs", np.zeros(1), ((1,),), max_iter=1), []

    def shelf(w: Tensor) -> Tensor:
        calls.append(1)
        moved = slope * (w - w.detach()) if len(calls) == 1 else change + 0 * w
        return level + moved.sum()

    run.step(shelf)
    assert len(calls) == 1 + expected


def test_lbfgs_forgets_its_history_where_no_rate_lowers_the_loss() -> None:
    run = Descent("lbfgs", np.array([0.3]), ((1,),), max_iter=1)
    run.step(lambda w: w.square().sum())
    assert run.number("pairs") == 1
    before = run.w
    wall = torch.tensor(before)
    assert run.step(lambda w: torch.where(w == wall, w, 1 + wall).sum()) == before
    assert run.number("pairs") == 0


def test_lbfgs_starts_afresh_where_its_direction_goes_up() -> None:
    hyper = {"max_iter": 1, "line_search_fn": None, "tolerance_grad": 0.0}
    run = Descent("lbfgs", np.array([3.0, -2.0]), ((2,),), **hyper)
    run.step(lambda w: w.square().sum())
    # A history that nobody's steps can give: its matrix is negative definite.
    for state in run.optimizer.state.values():
        state["changes"].neg_()
    before = run.w
    found = run.step(lambda w: 0.5 * w.square().sum())
    np.testing.assert_allclose(found, before * (1 - 1 / np.abs(before).sum()), atol=1e-14)
    assert run.number("pairs") == 1
    assert_close(run.step(lambda w: 0.5 * w.square().sum()), 0.0)
    # The slope along its direction is lost in underflow.
    run.step(lambda w: 1e-200 * w.sum())
    assert run.number("pairs") == 0


# Saddle-free Newton


def test_saddle_free_newton_flees_the_saddle_that_newton_goes_to() -> None:
    def saddle(w: Tensor) -> Tensor:
        return w[0] ** 2 - w[1] ** 2

    w = np.array([1.0, 0.1])
    free = Descent("saddle-free-newton", w, ((2,),), damping=0.0)
    assert_close(free.step(saddle), [0.0, 0.2])


def test_saddle_free_newton_leaves_a_saddle_that_traps_newton_and_slow_descent() -> None:
    def well(w: Tensor) -> Tensor:
        return 0.5 * w[0] ** 2 + 0.25 * w[1] ** 4 - 5e-4 * w[1] ** 2

    w = np.array([1.0, 1e-4])
    runs = {
        "saddle-free-newton": Descent("saddle-free-newton", w, ((2,),), damping=1e-5),
        "gd": Descent("sgd", w, ((2,),), lr=0.1),
    }
    for _ in range(40):
        runs["saddle-free-newton"].step(well)
        runs["gd"].params[0].grad = torch.tensor(_gradient(well, runs["gd"].w))
        runs["gd"].optimizer.step()
    bottom = math.sqrt(1e-3)
    assert_close(abs(runs["saddle-free-newton"].w[1]), bottom, 1e-8)
    assert runs["gd"].w[1] < 2e-4
    newton = w
    for _ in range(40):
        t = torch.tensor(newton)
        H = torch.autograd.functional.hessian(well, t).numpy()
        newton = newton - np.linalg.solve(H, _gradient(well, newton))
    assert np.linalg.norm(newton) < 1e-10


def _gradient(loss: Any, w: Array) -> Array:
    x = torch.tensor(w, requires_grad=True)
    loss(x).backward()
    assert x.grad is not None
    return x.grad.numpy()


@pytest.mark.parametrize("dim", [0, 8, 20])
def test_saddle_free_newton_is_damped_newton_on_convex_quadratics(dim: int) -> None:
    problem = Curved.drawn(0, "squares")
    problem = Curved(0 * problem.A, problem.B, problem.targets, "squares")
    w = start()
    found = Descent("saddle-free-newton", w, damping=0.3, krylov_dim=dim).step(problem)
    H = problem.hessian(w) + 0.3 * np.eye(8)
    assert_close(found, w - np.linalg.solve(H, problem.gradient(w)), 1e-9)


@pytest.mark.parametrize("rank", [2, 4, 12])
def test_saddle_free_newton_of_low_rank_solves_with_the_leading_eigenpairs(rank: int) -> None:
    # 30 parameters and a Hessian of rank 12, whose range 12 random vectors span.
    rng = np.random.default_rng(1)
    U = np.linalg.qr(rng.standard_normal((30, 12)))[0]
    e = np.array([9.0, -8.0, 7.0, -6.0, 5.0, 4.0, -3.0, 2.0, 1.0, -0.5, 0.3, 0.1])
    H, slope, w = U @ np.diag(e) @ U.T, rng.standard_normal(30), start(30)

    run = Descent("saddle-free-newton", w, ((30,),), rank=rank, damping=0.2)
    kept = np.where(np.arange(12) < rank, np.abs(e), 0)
    model = U @ np.diag(kept) @ U.T + 0.2 * np.eye(30)
    expected = w - np.linalg.solve(model, H @ w + slope)
    assert_close(run.step(_quadratic(H, slope)), expected)
    assert not any("previous_step" in run.optimizer.state[p] for p in run.params)


def _quadratic(matrix: Array, slope: Array) -> Any:
    H, b = torch.tensor(matrix), torch.tensor(slope)
    return lambda w: 0.5 * w @ H @ w + b @ w


def test_saddle_free_newton_of_low_rank_finds_its_eigenpairs_from_ten_more_vectors() -> None:
    rng = np.random.default_rng(2)
    H, slope, w = np.diag(np.linspace(-1, 3, 40)), rng.standard_normal(40), start(40)
    hyper: dict[str, Any] = {"rank": 3, "damping": 0.5, "lr": 0.1, "seed": 4}
    run = Descent("saddle-free-newton", w, ((40,),), **hyper)
    for step in range(3):
        probes = Probes(run.optimizer, 4, "saddle-free-newton", step)
        drawn = np.stack([probes.normals(i)[0].numpy() for i in range(13)], axis=1)
        Q = np.linalg.qr(H @ drawn)[0]
        e, V = np.linalg.eigh(Q.T @ H @ Q)
        leading = np.argsort(-np.abs(e))[:3]
        U = Q @ V[:, leading]
        model = U @ np.diag(np.abs(e[leading])) @ U.T + 0.5 * np.eye(40)
        w = w - 0.1 * np.linalg.solve(model, H @ w + slope)
        assert_close(run.step(_quadratic(H, slope)), w)


@pytest.mark.parametrize(("size", "rank", "products"), [(40, 3, 26), (5, 20, 10)])
def test_saddle_free_newton_of_low_rank_takes_no_more_products_than_it_needs(
    size: int, rank: int, products: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, product = [], second_order.hessian_product

    def counted(*given: Any) -> list[Tensor]:
        seen.append(1)
        return product(*given)

    monkeypatch.setattr("thalweg.optim.saddle_free_newton.hessian_product", counted)
    run = Descent("saddle-free-newton", start(size), ((size,),), rank=rank)
    run.step(_quadratic(np.diag(np.linspace(-1, 3, size)), np.ones(size)))
    assert len(seen) == products


def test_saddle_free_newton_refuses_what_does_not_go_together() -> None:
    refused: list[dict[str, Any]] = [
        {"rank": -1},
        {"rank": 2, "krylov_dim": 2},
        {"rank": 2, "damping": 0.0},
        {"krylov_dim": -1},
        {"damping": -0.1},
    ]
    for hyper in refused:
        with pytest.raises(UsageError, match=list(hyper)[-1]):
            Descent("saddle-free-newton", start(3), ((3,),), **hyper)


def test_saddle_free_newton_stands_still_where_the_gradient_is_zero() -> None:
    hyper: dict[str, Any] = {"krylov_dim": 2, "adaptive_damping": True}
    run = Descent("saddle-free-newton", np.zeros(3), ((3,),), **hyper)
    assert (run.step(scaled([1, 2, 3])) == 0).all()
    assert run.optimizer.param_groups[0]["present_damping"] == 0.01


@pytest.mark.parametrize(
    ("cubic", "damping", "end"), [(0.6, 0.025, 0.8), (0.8, 0.25, 0.8), (1.0, 2.5, 0.0)]
)
def test_saddle_free_newton_damps_as_the_loss_falls(
    cubic: float, damping: float, end: float
) -> None:
    # The step is 0.8, and 0.3 of the model's fall is 0.12; the loss falls by 0.48 - 0.512 cubic.
    run = Descent("saddle-free-newton", np.zeros(1), ((1,),), damping=0.25, adaptive_damping=True)
    found = run.step(lambda w: -w[0] + w[0] ** 2 / 2 + cubic * w[0] ** 3)
    assert_close(found, end, 1e-12)
    assert run.optimizer.param_groups[0]["present_damping"] == pytest.approx(damping)


def test_saddle_free_newton_damps_by_10_at_most() -> None:
    run = Descent("saddle-free-newton", np.zeros(1), ((1,),), damping=0.5, adaptive_damping=True)
    for expected in (5.0, 10.0, 10.0):
        assert run.step(lambda w: -w[0] + w[0] ** 2 / 2 + 1e9 * w[0] ** 4)[0] == 0
        assert run.optimizer.param_groups[0]["present_damping"] == expected


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_saddle_free_newton_trusts_a_quadratic_of_any_size(scale: float) -> None:
    run = Descent("saddle-free-newton", scale * np.ones(3), ((3,),), adaptive_damping=True)
    dampings = []
    for _ in range(4):
        run.step(scaled([1, 2, 3]))
        dampings.append(run.optimizer.param_groups[0]["present_damping"])
    np.testing.assert_allclose(dampings, [1e-3, 1e-4, 1e-5, 1e-5])


# Filtered Newton


def test_filtered_newton_is_newton_with_a_matrix_momentum() -> None:
    problem = Curved.drawn(0, "squares")
    steep = Curved(0 * problem.A, 0.1 * problem.B, problem.targets, "squares")
    alpha, beta, w = 0.9, 2.0, start()
    run = Descent("filtered-newton", w, alpha=alpha, beta=beta, line_search=False)
    last, covariance = None, None
    for _ in range(6):
        H, g = steep.hessian(w), steep.gradient(w)
        found = run.step(steep)
        d = found - w
        if last is not None:
            M = alpha * np.linalg.solve(alpha**2 * covariance + beta * np.eye(8), covariance)
            assert np.abs(np.linalg.eigvals(M)).max() < 1
            assert_close(d, M @ last - np.linalg.solve(H, g), 1e-8)
        root = np.concatenate(
            [run.optimizer.state[p]["root"].reshape(p.numel(), -1).numpy() for p in run.params]
        )
        last, covariance, w = d, root @ root.T, found


def test_filtered_newton_forgets_everything_where_gradients_drift_at_once() -> None:
    problems = [Curved(0 * x.A, x.B, x.targets, x.kind) for x in SQUARES]
    found = path_of(
        "filtered-newton", batches(problems), 5, start(), beta=1e9, line_search=False, lr=0.3
    )
    w = start()
    for t in range(1, 6):
        problem = problems[t % 3]
        w = w - 0.3 * np.linalg.solve(problem.hessian(w), problem.gradient(w))
        np.testing.assert_allclose(found[t - 1], w, atol=1e-6)


def test_filtered_newton_stays_finite_where_the_hessian_is_singular_or_indefinite() -> None:
    for loss in (lambda w: (w.sum() - 1) ** 2, lambda w: w[0] ** 2 - w[1] ** 2 + w[2]):
        run = Descent("filtered-newton", start(3), ((3,),), beta=1.0)
        for _ in range(4):
            assert np.isfinite(run.step(loss)).all()


def test_filtered_newton_keeps_a_finite_root_where_rounding_makes_eigenvalues_negative() -> None:
    few = torch.tensor(np.random.default_rng(0).standard_normal((2, 10)))
    run = Descent("filtered-newton", start(10), ((10,),), beta=1.0)
    for _ in range(4):
        run.step(lambda w: (few @ w).square().sum())
        assert run.optimizer.state[run.params[0]]["root"].isfinite().all()


@pytest.mark.parametrize(("inverse", "measured"), [(2e-6, 3e-6), (2.1e-6, 2.1e-6)])
def test_filtered_newton_widens_a_hessian_that_says_more_than_1e_6_less_than_the_drift(
    inverse: float, measured: float
) -> None:
    # Without memory (alpha = 0) the step is (Q^-1 or Q^-1 + S^-1) f, here with S^-1 = 1e-6.
    run = Descent("filtered-newton", np.zeros(1), ((1,),), alpha=0.0, beta=1e6, line_search=False)
    before = run.step(lambda w: (w - 1).square().sum() / (2 * inverse))[0]
    found = run.step(lambda w: (w + 1).square().sum() / (2 * inverse))[0]
    np.testing.assert_allclose(found, before - measured * (before + 1) / inverse, rtol=1e-9)


def test_filtered_newton_adds_1e_12_to_what_it_inverts() -> None:
    run = Descent("filtered-newton", np.ones(1), ((1,),), line_search=False)
    assert_close(run.step(scaled([1e-12])), 0.5, 1e-12)


def test_filtered_newton_raises_eigenvalues_to_ten_roundings_of_the_largest() -> None:
    run = Descent("filtered-newton", np.ones(3), ((3,),))
    run.step(scaled([-3.0, 0.0, 2.0]))
    root = run.optimizer.state[run.params[0]]["root"]
    least = 30 * np.finfo(float).eps
    np.testing.assert_allclose(root @ root.mT, np.diag([least, least, 2.0]), rtol=1e-6, atol=1e-18)


# Gradient-normalised smoothness

GNS = "grad-norm-smooth-newton"


@pytest.mark.parametrize("approximation", ["ggn", "fisher"])
def test_grad_norm_smooth_newton_moves_by_gamma_at_most(approximation: str) -> None:
    run = Descent(GNS, start(), gamma0=0.3, approximation=approximation)
    for t in range(10):
        w, radius = run.w, run.number("gamma")
        length = np.linalg.norm(run.step(ENTROPY[t % 3]) - w)
        assert length <= radius
    length = np.linalg.norm(Descent(GNS, start(3), ((3,),), gamma0=0.3).step(torch.sum) - start(3))
    assert_close(length, 0.3, 1e-7)


def test_grad_norm_smooth_newton_does_not_see_the_scale_of_the_loss() -> None:
    plain, scaled = Descent(GNS, start()), Descent(GNS, start())
    for _ in range(8):
        x = plain.step(lambda w: evaluated(ENTROPY[0], w)[0])
        y = scaled.step(lambda w: 64 * evaluated(ENTROPY[0], w)[0])
        assert_close(y, x, 1e-9)


def test_grad_norm_smooth_newton_with_a_large_radius_is_newtons_method() -> None:
    loss = logistic(*logistic_data())
    optimum = optimum_of(loss)
    found = Descent(GNS, optimum + 0.01, ((4,),), gamma0=1e9).step(loss)
    newton = Descent("newton", optimum + 0.01, ((4,),)).step(loss)
    np.testing.assert_allclose(found, newton, atol=1e-9)


def test_grad_norm_smooth_newton_halves_40_times_and_then_steps_anyway() -> None:
    run, calls = Descent(GNS, start(3), ((3,),), gamma0=2.0**40), []
    w = run.w

    def rising(x: Tensor) -> Tensor:
        calls.append(1)
        return x.sum() + (math.inf if len(calls) > 1 else 0.0)

    length = np.linalg.norm(run.step(rising) - w)
    assert len(calls) == 1 + 41
    assert_close(length, 1.0, 1e-7)
    assert run.number("gamma") == 0.5


def test_grad_norm_smooth_newton_takes_a_fall_of_just_what_it_asks_for() -> None:
    # Nothing, where the gradient vanishes: the loss is 0 here and there.
    run, calls = Descent(GNS, start(3), ((3,),)), []

    def level(x: Tensor) -> Tensor:
        calls.append(1)
        return (x - x.detach()).sum() if len(calls) == 1 else 0 * x.sum()

    run.step(level)
    assert len(calls) == 2
    assert run.number("gamma") == 2.0


def test_grad_norm_smooth_newton_takes_a_fall_that_rounding_hides() -> None:
    # The fall of 5e-13 is lost in a loss of 1e8, whose neighbours are 1e-8 away.
    run = Descent(GNS, np.array([1e-6]), ((1,),))
    found = run.step(lambda w: 1e8 + 0.5 * w.square().sum())
    assert abs(found) < 1e-11
    assert run.number("gamma") == 2.0


def test_grad_norm_smooth_newton_rests_at_a_stationary_point_and_shows_what_is_not_finite() -> None:
    run = Descent(GNS, start(3), ((3,),))
    w = run.w
    np.testing.assert_array_equal(run.step(lambda x: 0 * x.square().sum()), w)
    assert run.number("gamma") == 1.0
    np.testing.assert_array_equal(run.step(lambda x: x.sum() * math.inf), np.full(3, -np.inf))


@pytest.mark.parametrize("approximation", ["hessian", "ggn", "fisher"])
def test_grad_norm_smooth_newton_converges_linearly_on_softmax_and_logistic_regression(
    approximation: str,
) -> None:
    rng = np.random.default_rng(2)
    X = torch.tensor(rng.standard_normal((60, 3)))
    y = torch.tensor(rng.integers(0, 3, 60))

    def softmax(w: Tensor) -> tuple[Tensor, Tensor]:
        outputs = X @ w.reshape(3, 3)
        return nn.functional.cross_entropy(outputs, y), outputs

    for loss, size in ((softmax, 9), (logistic(*logistic_data(), 0.0), 4)):
        best = value_at(loss, optimum_of(loss, size))
        run = Descent(GNS, np.full(size, 3.0), ((size,),), approximation=approximation)
        gaps = [value_at(loss, run.step(loss)) - best for _ in range(40)]
        falling = [gap for gap in gaps if gap > 1e-10]
        assert len(falling) < 40
        for i in range(len(falling) - 5):
            assert falling[i + 5] < 0.5 * falling[i]
