"""What the papers of Gauss-Newton rules and of the thermodynamic natural gradient say."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from curved_runs import (
    ENTROPY,
    SQUARES,
    Descent,
    assert_close,
    batches,
    path_of,
    start,
)
from torch import Tensor

from reference.curved import Curved

# Gauss-Newton and EGN


@pytest.mark.parametrize("slug", ["gauss-newton", "egn"])
def test_linear_least_squares_takes_one_step(slug: str) -> None:
    problem = Curved.drawn(0, "squares")
    problem = Curved(0 * problem.A, problem.B, problem.targets, "squares")
    found = Descent(slug, start(), damping=1e-9).step(problem)
    optimum = np.linalg.lstsq(problem.B, problem.targets.ravel(), rcond=None)[0]
    np.testing.assert_allclose(found, optimum, atol=1e-6)


@pytest.mark.parametrize("slug", ["gauss-newton", "egn"])
def test_large_damping_is_gradient_descent(slug: str) -> None:
    found = Descent(slug, start(), damping=1e8).step(ENTROPY[0])
    assert_close(1e8 * (found - start()), -ENTROPY[0].gradient(start()), 1e-6)


@pytest.mark.parametrize("slug", ["gauss-newton", "egn", "tngd"])
def test_outputs_that_the_loss_is_linear_in_have_no_curvature(slug: str) -> None:
    weights = torch.arange(1.0, 9.0, dtype=torch.float64)
    hyper = {"time": math.inf} if slug == "tngd" else {}

    def loss(w: Tensor) -> tuple[Tensor, Tensor]:
        outputs = w * 1.0
        return (weights * outputs).sum(), outputs

    found = Descent(slug, start(), lr=1.0, damping=2.0, **hyper).step(loss)
    assert_close(found, start() - weights.numpy() / 2)


def test_egn_solves_as_many_equations_as_there_are_outputs() -> None:
    for damping, tolerance in ((1.0, 1e-14), (0.01, 1e-12)):
        problem = Curved.drawn(9, "entropy", size=7, rows=4)
        found = Descent("egn", start(7), ((7,),), damping=damping).step(problem)
        w = start(7)
        d = np.linalg.solve(problem.gauss_newton(w) + damping * np.eye(7), problem.gradient(w))
        assert np.linalg.norm(found - (w - d)) <= tolerance * np.linalg.norm(d)


def test_egn_does_not_see_how_the_vector_is_cut_into_parameters() -> None:
    whole = Descent("egn", start(), ((8,),), momentum=0.7)
    parts = Descent("egn", start(), momentum=0.7)
    for problem in SQUARES:
        assert_close(whole.step(problem), parts.step(problem), 1e-12)


def test_gauss_newton_by_conjugate_gradients_stops_early() -> None:
    problem, w = SQUARES[0], start()
    hyper = {"solver": "cg", "damping": 0.1}
    first = Descent("gauss-newton", w, cg_iterations=1, **hyper).step(problem)
    g, G = problem.gradient(w), problem.gauss_newton(w) + 0.1 * np.eye(8)
    assert_close(first, w - (g @ g) / (g @ G @ g) * g)
    assert_close(Descent("gauss-newton", w, cg_tolerance=1.0, **hyper).step(problem), w, 0.0)
    second = Descent("gauss-newton", w, cg_iterations=2, **hyper).step(problem)
    residual = g + G @ (first - w)
    between = np.linalg.norm(residual) / np.linalg.norm(g)
    for tolerance, expected in ((1.01 * between, first), (0.99 * between, second)):
        run = Descent("gauss-newton", w, cg_tolerance=tolerance, cg_iterations=2, **hyper)
        assert_close(run.step(problem), expected, 1e-12)


# TNGD


def test_tngd_tends_to_the_damped_natural_gradient_with_time() -> None:
    problem, w = ENTROPY[0], start()
    F = problem.gauss_newton(w) + 0.2 * np.eye(8)
    exact = w - 0.5 * np.linalg.solve(F, problem.gradient(w))
    errors = []
    for time in (0.0, 1.0, 5.0, 25.0, 125.0, math.inf):
        found = Descent("tngd", w, lr=0.5, damping=0.2, time=time).step(problem)
        errors.append(np.linalg.norm(found - exact))
    assert all(after < before for before, after in itertools.pairwise(errors[:-1]))
    assert errors[-2] < 1e-9
    assert errors[-1] < 1e-13


def test_tngd_without_time_is_gradient_descent() -> None:
    found = path_of("tngd", batches(SQUARES), 5, start(), time=0.0, warm_start=False)
    w = start()
    for t in range(1, 6):
        w = w - 0.1 * SQUARES[t % 3].gradient(w)
        assert_close(found[t - 1], w)


@pytest.mark.parametrize(("time", "delay"), [(0.8, 0.0), (0.0, 0.6)])
def test_tngd_reads_with_the_covariance_of_the_process(time: float, delay: float) -> None:
    K = torch.tensor([[2.0, 0.6], [0.6, 0.5]], dtype=torch.float64)

    def loss(w: Tensor) -> tuple[Tensor, Tensor]:
        outputs = w * 1.0
        return 0.5 * outputs @ K @ outputs, outputs

    w = np.array([0.3, -0.2])
    hyper = {"lr": 1.0, "damping": 0.1, "time": time, "delay": delay, "noise": 0.04}
    reads = []
    run = Descent("tngd", w, ((2,),), warm_start=delay > 0, **hyper)
    for _ in range(500):
        run.params[0].data.copy_(torch.tensor(w))
        if delay:
            for state in run.optimizer.state.values():
                state["reading"].zero_()
        run.step(loss)
        reads.append(run.optimizer.state[run.params[0]]["reading"].numpy().copy())
    values, basis = np.linalg.eigh(K.numpy() + 0.1 * np.eye(2))
    share = 1 - np.exp(-2 * values * (time + delay))
    covariance = np.cov(np.stack(reads[1:]).T)
    expected = 0.04 * basis @ np.diag(share / values) @ basis.T
    np.testing.assert_allclose(covariance, expected, atol=0.2 * np.abs(expected).max())


def test_tngd_with_delay_alone_applies_the_step_before() -> None:
    problems = batches(SQUARES)
    found = path_of("tngd", problems, 4, start(), time=0.0, delay=1e9, damping=0.3)
    w, reading = start(), SQUARES[1].gradient(start())
    for t in range(1, 5):
        problem, before = problems(t), w
        w = w - 0.1 * reading
        F = problem.gauss_newton(before) + 0.3 * np.eye(8)
        reading = np.linalg.solve(F, problem.gradient(before))
        assert_close(found[t - 1], w)


def test_tngd_with_adam_first_steps_by_the_sign_of_its_reading() -> None:
    problem, w = SQUARES[0], start()
    F = problem.gauss_newton(w) + 0.1 * np.eye(8)
    hyper: dict[str, Any] = {"lr": 0.3, "time": math.inf, "adam": True, "eps": 0.0}
    found = Descent("tngd", w, ((8,),), **hyper).step(problem)
    assert_close(found, w - 0.3 * np.sign(np.linalg.solve(F, problem.gradient(w))))


def test_tngd_without_damping_stands_flat_directions() -> None:
    found = Descent("tngd", np.array([1.0, 2.0]), ((2,),), damping=0.0).step(
        lambda w: _halved_square(w[:1] * 1.0)
    )
    assert_close(found, [0.9, 2.0])


def _halved_square(outputs: Tensor) -> tuple[Tensor, Tensor]:
    return 0.5 * outputs.square().sum(), outputs


def test_tngd_noise_is_the_same_in_every_run_and_differs_between_steps() -> None:
    hyper = {"noise": 0.1, "delay": 0.2, "time": 0.5}
    one, other = (path_of("tngd", batches(SQUARES), 3, start(), **hyper) for _ in range(2))
    assert_close(one, other, 0.0)
    flat = Descent("tngd", np.zeros(1), ((1,),), noise=1.0, warm_start=False, damping=1.0)
    moves = np.diff([0.0, *(float(flat.step(lambda w: (w.sum(), w * 1.0))[0]) for _ in range(5))])
    assert len(set(np.round(moves, 9))) == 5
