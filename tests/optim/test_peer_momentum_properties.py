"""Rules of momentum, signs and layers that other libraries have."""

import math
from typing import Any

import numpy as np
import pytest
from rule_runs import Run, assert_paths, noise, path_of

from reference.problems import VECTOR, p3

# Signum


def test_signum_without_momentum_is_sign_descent() -> None:
    points = Run("signum", [VECTOR], lr=0.125, momentum=0.0).step([np.array([3.0, -1e-3, 0.0])])[0]
    np.testing.assert_array_equal(points, VECTOR + np.array([-0.125, 0.125, 0.0]))


# AggMo


@pytest.mark.parametrize("hyper", [{"buffers": 1}, {"a": 1.0, "buffers": 4}], ids=str)
def test_aggmo_without_memory_is_gradient_descent(hyper: dict[str, Any]) -> None:
    setting = noise((7,), (3, 4))
    script = setting.gradients()
    one = path_of("aggmo", script, setting.start(), lr=0.1, weight_decay=0.2, **hyper)
    two = path_of("sgd", script, setting.start(), lr=0.1, weight_decay=0.2)
    assert_paths(one, two, 1e-13)


def test_aggmo_keeps_a_buffer_for_each_decay_but_the_first() -> None:
    own = Run("aggmo", [VECTOR], buffers=4)
    own.step(p3)
    assert len(own.state()) == 3


# AccSGD


def test_accsgd_with_equal_steps_is_gradient_descent() -> None:
    setting = noise((7,), (3, 4))
    hyper: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.2}
    one = path_of(
        "accsgd",
        setting.gradients(),
        setting.start(),
        kappa=1.0,
        xi=1.0,
        small_const=1.0,
        **hyper,
    )
    assert_paths(one, path_of("sgd", setting.gradients(), setting.start(), **hyper), 1e-13)


def test_accsgd_is_ahead_of_sgd_on_an_ill_conditioned_quadratic() -> None:
    curvature = np.geomspace(1, 1e-4, 20)
    ends = {}
    for rule, hyper in (("sgd", {}), ("accsgd", {"kappa": 1e3, "xi": 10.0})):
        own = Run(rule, [np.ones(20)], lr=0.5, **hyper)
        for _ in range(1000):
            end = own.step(lambda t, points: [curvature * points[0]])[0]
        ends[rule] = np.sum(curvature * end**2)
    assert ends["accsgd"] < 0.25 * ends["sgd"]


# PID


def test_pid_without_derivative_is_nesterov_momentum() -> None:
    setting = noise((7,), (3, 4))
    hyper: dict[str, Any] = {"lr": 0.05, "momentum": 0.8, "weight_decay": 0.2}
    script = setting.gradients()
    one = path_of("pid", script, setting.start(), integral=0.8, derivative=0.0, **hyper)
    assert_paths(one, path_of("sgd", script, setting.start(), nesterov=True, **hyper), 1e-13)


def test_pid_derivative_damps_the_overshoot() -> None:
    far = {}
    for derivative in (0.0, 20.0):
        own = Run("pid", [np.ones(1)], lr=0.03, derivative=derivative)
        path = [own.step(lambda t, points: [points[0]])[0][0] for _ in range(60)]
        far[derivative] = -min(path)
    assert 0 < far[20.0] < 0.8 * far[0.0]


# LAMB


def test_lamb_moves_every_tensor_by_lr_of_its_norm() -> None:
    setting = noise((7,), (3, 4))
    before = setting.start()
    own = Run("lamb", before, lr=0.1, weight_decay=0.3)
    for gradients in setting.gradients()[:8]:
        after = own.step(gradients)
        for a, b in zip(after, before, strict=True):
            assert math.isclose(np.linalg.norm(a - b), 0.1 * np.linalg.norm(b), rel_tol=1e-12)
        before = after


@pytest.mark.parametrize("start", [VECTOR, np.zeros(3)], ids=["left-out", "zero"])
def test_lamb_left_out_or_at_zero_is_adamw(start: np.ndarray) -> None:
    hyper: dict[str, Any] = {"lr": 0.1, "eps": 1e-3, "weight_decay": 0.2}
    one = Run("lamb", [start], adapt=not start.any(), **hyper).step(p3)
    two = Run("adamw", [start], **hyper).step(p3)
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-15)


def test_lamb_rests_without_gradient_and_decay() -> None:
    np.testing.assert_array_equal(Run("lamb", [VECTOR]).step([np.zeros(3)])[0], VECTOR)


# LARS


def test_lars_first_step_is_a_share_of_the_norm() -> None:
    g = np.array([3.0, -100.0, 0.2])
    for scale in (1e-3, 1.0, 1e3):
        points = Run("lars", [VECTOR], lr=2.0, trust_coefficient=0.05).step([scale * g])[0]
        step = 0.1 * np.linalg.norm(VECTOR) * g / np.linalg.norm(g)
        np.testing.assert_allclose(points, VECTOR - step, rtol=0, atol=1e-14)


@pytest.mark.parametrize("start", [VECTOR, np.zeros(3)], ids=["left-out", "zero"])
def test_lars_left_out_or_at_zero_is_sgd(start: np.ndarray) -> None:
    hyper: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2}
    one = Run("lars", [start], adapt=not start.any(), **hyper).step(p3)
    np.testing.assert_allclose(one, Run("sgd", [start], **hyper).step(p3), rtol=0, atol=1e-15)


def test_lars_rests_without_gradient_and_decays_at_lr() -> None:
    zero = [np.zeros(3)]
    np.testing.assert_array_equal(Run("lars", [VECTOR]).step(zero)[0], VECTOR)
    points = Run("lars", [VECTOR], lr=0.1, weight_decay=0.5).step(zero)[0]
    np.testing.assert_allclose(points, 0.95 * VECTOR, rtol=1e-15)


# Tiger


def test_tiger_moves_matrices_in_proportion_and_vectors_by_half_of_lr() -> None:
    rng = np.random.default_rng(2)
    matrix, vector = rng.standard_normal((3, 4)), rng.standard_normal(5)
    gradients = [rng.standard_normal((3, 4)), rng.standard_normal(5)]
    for scale in (1e-3, 1e3):
        start = [scale * matrix, scale * vector]
        after = Run("tiger", start, lr=0.02, weight_decay=0.0).step(gradients)
        size = 0.02 * scale * np.sqrt(np.mean(matrix**2))
        np.testing.assert_allclose(np.abs(after[0] - start[0]), size, rtol=1e-9)
        np.testing.assert_allclose(np.abs(after[1] - start[1]), 0.01, rtol=1e-9)


# NovoGrad


def test_novograd_sees_the_direction_of_a_gradient_alone() -> None:
    setting = noise((7,), (3, 4))
    script = setting.gradients()
    scaled = [[(t + 1) * g for g in gradients] for t, gradients in enumerate(script)]
    paths = [path_of("novograd", one, setting.start(), eps=0.0, lr=0.1) for one in (script, scaled)]
    assert_paths(*(path[:10] for path in paths), 1e-13)


def test_novograd_starts_with_the_first_gradient_that_is_not_zero() -> None:
    own = Run("novograd", [VECTOR], lr=0.1, betas=(0.0, 0.9))
    np.testing.assert_array_equal(own.step([np.zeros(3)])[0], VECTOR)
    points = own.step([np.array([3.0, 0.0, -4.0])])[0]
    np.testing.assert_allclose(points, VECTOR - 0.1 * np.array([0.6, 0.0, -0.8]), rtol=1e-8)


# Nero


def test_nero_keeps_neurons_centred_and_of_norm_1() -> None:
    setting = noise((5, 4), (6, 2), (2, 3, 2, 2))
    own = Run("nero", setting.start(), lr=0.1)
    for gradients in setting.gradients():
        for p in own.step(gradients):
            rows = p.reshape(len(p), -1)
            np.testing.assert_allclose(rows.mean(1), 0, atol=1e-15)
            np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-14)


def test_nero_rests_while_lr_is_0_and_where_there_was_no_gradient() -> None:
    start = np.array([[1.0, 2.0], [-1.0, 1.0]])
    own = Run("nero", [start], lr=lambda t: 0.0 if t == 1 else 0.1)
    np.testing.assert_array_equal(own.step([np.ones((2, 2))])[0], start)
    fresh = Run("nero", [start], constraints=False).step([np.array([[0.0, 0.0], [1.0, 2.0]])])[0]
    np.testing.assert_array_equal(fresh[0], start[0])
    assert (fresh[1] != start[1]).all()


def test_nero_lifts_zeros_and_bears_neurons_of_one_weight_or_equal_weights() -> None:
    points = Run("nero", [np.zeros(3)], lr=0.1).step([np.array([2.0, -3.0, 0.0])])[0]
    np.testing.assert_allclose(points, [-1e-3, 1e-3, 0.0], rtol=1e-14)
    start = np.array([[2.0], [-3.0]])
    points = Run("nero", [start], lr=0.1).step([np.array([[1.0], [1.0]])])[0]
    np.testing.assert_allclose(points, start - 0.25, rtol=1e-14)
    equal = Run("nero", [np.ones((2, 3))], lr=0.1).step([np.zeros((2, 3))])[0]
    np.testing.assert_array_equal(equal, np.zeros((2, 3)))


# CAME


@pytest.mark.parametrize(
    ("shape", "entries"),
    [((6, 5), 6 * 5 + 2 * 11), ((2, 6, 5), 2 * (6 * 5 + 2 * 11)), ((7,), 14)],
)
def test_came_state_of_matrices_is_rows_and_columns(shape: tuple[int, ...], entries: int) -> None:
    own = Run("came", [np.ones(shape)])
    own.step([np.ones(shape)])
    assert sum(x.size for x in own.state() if x.ndim) == entries


def test_came_reconstructs_squares_of_rank_one() -> None:
    rng = np.random.default_rng(3)
    g = rng.uniform(0.1, 3, (3, 1)) * rng.uniform(0.1, 3, (1, 4)) * rng.choice([-1.0, 1.0], (3, 4))
    start = rng.standard_normal((3, 4))
    # u is sign(g) / sqrt(1 - b2), clipped to sign(g); m is 0.1 of it, and S is (1 - b3) 0.81.
    points = Run("came", [start], lr=0.1).step([g])[0]
    step = 0.1 * 0.1 / np.sqrt(1e-4 * 0.81)
    np.testing.assert_allclose(points, start - step * np.sign(g), rtol=1e-11)


def test_came_trusts_a_steady_direction_more() -> None:
    rng = np.random.default_rng(4)
    steady, flipping = np.ones((4, 4)), np.ones((4, 4))
    own = Run("came", [np.zeros((4, 8))], lr=0.01, betas=(0.9, 0.9, 0.9), instability_eps=1e-4)
    for _ in range(60):
        flipping = rng.choice([-1.0, 1.0], (4, 4)) + 0.3
        before = own.points[0]
        step = own.step([np.hstack([steady, flipping])])[0] - before
    assert np.abs(step[:, :4]).mean() > 5 * np.abs(step[:, 4:]).mean()
