"""What the papers of AdaGrad's and Adam's nearer relatives say that they do."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_runs import Run, arrays, assert_paths, feed, noise, parameters, path_of

from reference.loop import Arrays
from reference.problems import VECTOR, p3
from thalweg import optim
from thalweg.core.errors import UsageError
from thalweg.testing import check_rule

sizes = st.floats(1e-3, 1e3)
signs = st.sampled_from([-1.0, 1.0])


def _moves(rule: str, script: list[Arrays], start: np.ndarray, **hyper: Any) -> np.ndarray:
    """Return the displacement of each step on one tensor."""
    path = [start, *(points[0] for points in path_of(rule, script, [start], **hyper))]
    return np.diff(path, axis=0)


def _assert_torch(rule: str, other: Any, hyper: dict[str, Any], dtype: torch.dtype) -> None:
    """Compare with an optimiser of torch on tensors of every shape."""
    setting = noise((), (5,), (3, 4), (2, 3, 2, 2))
    ours, theirs = (parameters(setting.start(), dtype) for _ in range(2))
    own: Any = optim.create(rule, ours, execution="loop", **hyper)
    their = other(theirs, foreach=False, **hyper)
    tolerance = 1e-13 if dtype == torch.float64 else 2e-5
    for gradients in setting.gradients():
        for params, optimizer in ((ours, own), (theirs, their)):
            feed(params, gradients)
            optimizer.step()
        for a, b in zip(arrays(ours), arrays(theirs), strict=True):
            assert np.abs(a - b).max() <= tolerance * max(1.0, np.abs(b).max())


DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)

# AdaGrad


@DTYPES
@pytest.mark.parametrize(
    "hyper",
    [
        {"lr": 0.1},
        {"lr": 0.3, "lr_decay": 0.2, "weight_decay": 0.1, "initial_accumulator_value": 0.5},
    ],
    ids=str,
)
def test_adagrad_is_that_of_torch(hyper: dict[str, Any], dtype: torch.dtype) -> None:
    _assert_torch("adagrad", torch.optim.Adagrad, {**hyper, "eps": 1e-3}, dtype)


@settings(deadline=None, max_examples=10)
@given(size=sizes, sign=signs)
def test_adagrad_constant_gradient_gives_steps_of_lr_over_root_k(size: float, sign: float) -> None:
    moves = _moves("adagrad", [[np.array([sign * size])]] * 9, np.zeros(1), lr=0.1, eps=1e-30)
    np.testing.assert_allclose(moves[:, 0], -sign * 0.1 / np.sqrt(np.arange(1, 10)), rtol=1e-12)


def test_adagrad_does_not_see_each_entrys_scale() -> None:
    script = [[g + (g == 0) for g in gradients] for gradients in noise((7,)).gradients()]
    scaled = [[10.0 ** np.arange(-3, 4) * g for g in gradients] for gradients in script]
    start = noise((7,)).start()
    one, other = [path_of("adagrad", g, start, lr=0.1, eps=1e-30) for g in (script, scaled)]
    assert_paths(one, other, 1e-13)


# AdaMax


@DTYPES
@pytest.mark.parametrize(
    "hyper",
    [{"lr": 0.1}, {"lr": 0.03, "betas": (0.8, 0.6), "eps": 0.01, "weight_decay": 0.2}],
    ids=str,
)
def test_adamax_is_that_of_torch(hyper: dict[str, Any], dtype: torch.dtype) -> None:
    _assert_torch("adamax", torch.optim.Adamax, hyper, dtype)


@settings(deadline=None, max_examples=10)
@given(found=st.lists(sizes, min_size=2, max_size=8), sign=signs)
def test_adamax_steps_at_most_lr_while_the_sign_stays(found: list[float], sign: float) -> None:
    script = [[np.array([sign * size])] for size in found]
    moves = _moves("adamax", script, np.zeros(1), lr=0.1, betas=(0.9, 1 - 1e-12), eps=1e-30)
    assert (np.abs(moves) <= 0.1 * (1 + 1e-10)).all()
    np.testing.assert_allclose(moves[0], -0.1 * sign, rtol=1e-12)


# AdaBound and AMSBound


def _of_adam(hyper: dict[str, Any]) -> tuple[list[Arrays], Arrays, list[Arrays]]:
    """Return a script, its start and Adam's path on it, with an eps that is lost."""
    setting = noise((7,), (3, 4))
    script = [[g + 1e-3 for g in gradients] for gradients in setting.gradients()]
    return script, setting.start(), path_of("adam", script, setting.start(), eps=1e-30, **hyper)


def test_adabound_with_open_bounds_is_adam() -> None:
    hyper = {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.1}
    script, start, expected = _of_adam(hyper)
    found = path_of("adabound", script, start, gamma=1e-12, eps=1e-30, **hyper)
    assert_paths(found, expected, 1e-9)


@pytest.mark.parametrize("rule", ["adabound", "amsbound"])
def test_adabound_and_amsbound_end_as_momentum_descent(rule: str) -> None:
    setting = noise((7,))
    theta, m, expected = setting.start()[0], np.zeros(7), []
    for (g,) in setting.gradients():
        m = 0.9 * m + 0.1 * g
        theta = theta - 0.3 * m
        expected.append([theta])
    hyper = {"final_lr": 0.3, "gamma": 1e14}
    found = path_of(rule, setting.gradients(), setting.start(), **hyper)
    assert_paths(found, expected, 1e-12)


def test_adabound_with_the_maximum_is_amsbound() -> None:
    setting = noise((7,))
    hyper = {"lr": 0.01, "betas": (0.9, 0.5), "gamma": 0.01}
    plain, with_maximum, other = (
        path_of(rule, setting.gradients(), setting.start(), **extra, **hyper)
        for rule, extra in (("adabound", {}), ("adabound", {"amsbound": True}), ("amsbound", {}))
    )
    assert_paths(with_maximum, other, 0.0)
    assert np.abs(plain[-1][0] - other[-1][0]).max() > 1e-3


@pytest.mark.parametrize("rule", ["adabound", "gravity"])
def test_adabound_and_gravity_begin_with_the_first_rate_that_is_not_zero(rule: str) -> None:
    script = [[g + (g == 0) for g in some] for some in noise((4,), steps=6).gradients()]
    hyper: dict[str, Any] = {"alpha": 0.0} if rule == "gravity" else {"gamma": 0.5}

    def path(rates: list[float]) -> list[np.ndarray]:
        own = Run(rule, [np.ones(4)], lr=rates[0], **hyper)
        points = []
        for rate, gradients in zip(rates, script, strict=True):
            own.optimizer.param_groups[0]["lr"] = rate
            points.append(own.step(gradients)[0])
        assert own.optimizer.param_groups[0]["first_lr"] == max(rates[0], rates[1])
        return points

    late = path([0.0, 0.02, 0.02, 0.01, 0.01, 0.01])
    np.testing.assert_array_equal(late[0], np.ones(4))
    assert (late[1] != late[0]).all()
    if rule == "adabound":
        started = path([0.02, 0.02, 0.02, 0.01, 0.01, 0.01])
        # From the second step on both have the same state, and so move alike.
        np.testing.assert_allclose(np.diff(late, axis=0), np.diff(started, axis=0), atol=1e-14)


# AdaMod


def test_adamod_without_memory_is_adam() -> None:
    hyper = {"lr": 0.1, "betas": (0.8, 0.9)}
    script, start, expected = _of_adam(hyper)
    assert_paths(path_of("adamod", script, start, beta3=0.0, eps=1e-30, **hyper), expected, 1e-13)


@settings(deadline=None, max_examples=10)
@given(size=sizes, beta3=st.floats(0.1, 0.999))
def test_adamod_begins_with_a_share_of_adams_step(size: float, beta3: float) -> None:
    moves = _moves("adamod", [[np.array([size, -size])]], np.zeros(2), beta3=beta3, eps=1e-30)
    np.testing.assert_allclose(moves[0], 1e-3 * (1 - beta3) * np.array([-1, 1]), rtol=1e-9)


# AdaMomentum


@settings(deadline=None, max_examples=10)
@given(size=sizes, beta1=st.floats(0.0, 0.99))
def test_adamomentum_begins_with_lr_over_one_less_beta1(size: float, beta1: float) -> None:
    script = [[np.array([size, -size])]]
    moves = _moves("adamomentum", script, np.zeros(2), betas=(beta1, 0.999), eps=1e-40)
    np.testing.assert_allclose(moves[0], 1e-3 / (1 - beta1) * np.array([-1, 1]), rtol=1e-9)


def test_adamomentum_without_momentum_has_eps_inside_the_root() -> None:
    setting = noise((7,))
    theta, v, expected = setting.start()[0], np.zeros(7), []
    for t, (g,) in enumerate(setting.gradients(), start=1):
        v = 0.9 * v + 0.1 * g * g + 0.01
        theta = theta - 0.05 * g / np.sqrt(v / (1 - 0.9**t))
        expected.append([theta])
    hyper = {"lr": 0.05, "betas": (0.0, 0.9), "eps": 0.01}
    assert_paths(
        path_of("adamomentum", setting.gradients(), setting.start(), **hyper), expected, 1e-13
    )


def test_adamomentum_keeps_a_maximum_only_with_amsgrad_and_not_rectified() -> None:
    for amsgrad, tensors in ((False, 2), (True, 3)):
        own = Run("adamomentum", [VECTOR], amsgrad=amsgrad)
        own.step(p3)
        assert len(own.state()) == tensors
    with pytest.raises(UsageError, match="amsgrad"):
        Run("adamomentum", [VECTOR], amsgrad=True, rectify=True)


# diffGrad


def test_diffgrad_is_half_of_adam_on_a_constant_gradient() -> None:
    script = [[np.array([1.0, -2.0, 0.5])]] * 12
    own, adam = (_moves(rule, script, VECTOR, lr=0.1, eps=1e-30) for rule in ("diffgrad", "adam"))
    np.testing.assert_allclose(own[1:], adam[1:] / 2, rtol=1e-12)
    np.testing.assert_allclose(own[0], adam[0] / (1 + np.exp(-np.abs(script[0][0]))), rtol=1e-12)


@settings(deadline=None, max_examples=10)
@given(found=st.lists(st.floats(-50, 50), min_size=2, max_size=8))
def test_diffgrad_takes_between_half_and_all_of_adams_step(found: list[float]) -> None:
    script = [[np.array([g + 100.0])] for g in found]
    own, adam = (
        _moves(rule, script, np.zeros(1), lr=0.1, eps=1e-30) for rule in ("diffgrad", "adam")
    )
    share = own / adam
    assert ((share >= 0.5 - 1e-9) & (share <= 1 + 1e-9)).all()


# Grams


def test_grams_is_adamw_where_the_mean_and_the_gradient_agree() -> None:
    script = [[np.abs(g) + 1e-3 for g in gradients] for gradients in noise((7,)).gradients()]
    hyper = {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-30, "weight_decay": 0.2}
    one, other = [
        path_of(rule, script, noise((7,)).start(), **hyper) for rule in ("grams", "adamw")
    ]
    assert_paths(one, other, 1e-13)


def test_grams_never_moves_against_the_gradient() -> None:
    setting = noise((7,), steps=30)
    moves = _moves("grams", setting.gradients(), setting.start()[0], lr=0.1)
    for move, (g,) in zip(moves, setting.gradients(), strict=True):
        assert (move * g <= 0).all()
        assert ((move == 0) == (g == 0)).all()


# INNAprop


def test_innaprop_with_unit_frictions_is_adamw_without_momentum() -> None:
    setting = noise((7,), (3, 4))
    hyper = {"lr": 0.1, "eps": 1e-3, "weight_decay": 0.2}
    own = path_of(
        "innaprop", setting.gradients(), setting.start(), alpha=1.0, beta=1.0, sigma=0.9, **hyper
    )
    adamw = path_of("adamw", setting.gradients(), setting.start(), betas=(0.0, 0.9), **hyper)
    assert_paths(own, adamw, 1e-14)


def test_innaprop_rests_where_there_is_no_gradient() -> None:
    path = path_of("innaprop", [[np.zeros(3)]] * 5, [VECTOR], lr=0.1, weight_decay=0.0)
    np.testing.assert_allclose(path[-1][0], VECTOR, rtol=1e-14)


def test_innaprop_refuses_a_learning_rate_that_equals_beta() -> None:
    with pytest.raises(UsageError, match="beta"):
        Run("innaprop", [VECTOR], lr=0.9)
    own = Run("innaprop", [VECTOR])
    own.optimizer.param_groups[0]["lr"] = 0.9
    with pytest.raises(UsageError, match="beta"):
        own.step(p3)


# Ano and Anolog


@pytest.mark.parametrize(
    ("rule", "hyper"), [("ano", {"betas": (0.92, 0.5)}), ("anolog", {"beta2": 0.5})]
)
def test_ano_and_anolog_go_along_the_means_sign(rule: str, hyper: dict[str, Any]) -> None:
    setting = noise((9,), steps=40)
    own, before, m = Run(rule, setting.start(), lr=0.1, **hyper), setting.start()[0], np.zeros(9)
    for t, (g,) in enumerate(setting.gradients(), start=1):
        beta1 = 0.92 if rule == "ano" else 1 - 1 / math.log(max(2, t))
        m = beta1 * m + (1 - beta1) * g
        after = own.step([g])[0]
        np.testing.assert_array_equal(np.sign(before - after), np.where(g == 0, 0, np.sign(m)))
        state = own.optimizer.state[own.params[0]]
        assert (state["exp_avg_sq"].numpy() >= 0).all()
        before = after


def test_ano_and_anolog_differ_by_their_decay_alone() -> None:
    # While gradients keep their sign the mean has it too, whatever its decay above 0.
    script = [[np.abs(g)] for (g,) in noise((5,)).gradients()]
    hyper: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.1}
    one = path_of("ano", script, [np.ones(5)], betas=(0.9, 0.95), **hyper)
    two = path_of("anolog", script, [np.ones(5)], beta2=0.95, schedule_offset=2, **hyper)
    assert_paths(one, two, 0.0)


def test_ano_and_anolog_first_step_without_correction() -> None:
    g = [np.array([1.0, -2.0])]
    plain = _moves("anolog", [g], np.zeros(2), lr=0.01, beta2=0.999, bias_correction=False)
    own = _moves("ano", [g], np.zeros(2), lr=0.01)
    np.testing.assert_allclose(plain / own, math.sqrt(1000), rtol=1e-4)


def test_ano_and_anolog_negative_decay_turns_the_second_step() -> None:
    # beta1 = -0.44 at first: the older gradient counts against itself, unless there is an offset.
    script = [[np.array([1.0])], [np.array([0.1])]]
    for offset, sign in ((0, 1.0), (2, -1.0)):
        moves = _moves("anolog", script, np.zeros(1), schedule_offset=offset)
        np.testing.assert_array_equal(np.sign(moves[:, 0]), [-1.0, sign])


# Optimistic AMSGrad


def test_opt_amsgrad_with_a_true_hint_leaves_the_maximum() -> None:
    own = Run("opt-amsgrad", [VECTOR], betas=(0.9, 0.5))
    g = np.array([1.0, -2.0, 0.5])
    for _ in range(6):
        own.step([g])
    state = own.optimizer.state[own.params[0]]
    # The first hint is 0, all others are right.
    largest = 0.5 * (1e-8 + g * g)
    np.testing.assert_allclose(state["max_exp_avg_sq"].numpy(), largest, rtol=1e-14)
    np.testing.assert_allclose(state["exp_avg_sq"].numpy(), largest * 0.5**5, rtol=1e-14)


def test_opt_amsgrad_without_a_hint_has_the_squares_of_amsgrad() -> None:
    setting = noise((7,), (3, 4))
    betas = (0.9, 0.6)
    own = Run("opt-amsgrad", setting.start(), hint="none", betas=betas, eps=1e-300)
    other = Run("amsgrad", setting.start(), correct_bias=False, betas=betas)
    for gradients in setting.gradients():
        own.step(gradients)
        other.step(gradients)
        for p, q in zip(own.params, other.params, strict=True):
            one, two = own.optimizer.state[p], other.optimizer.state[q]
            for name in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
                np.testing.assert_allclose(one[name], two[name], rtol=1e-13, atol=1e-15)
    assert "hint" not in one


def test_opt_amsgrad_stands_ahead_of_its_other_iterate() -> None:
    setting = noise((6,))
    own, u, h = Run("opt-amsgrad", setting.start(), lr=0.05), setting.start()[0], np.zeros(6)
    for gradients in setting.gradients():
        h = 0.9 * h + 0.1 * gradients[0]
        theta = own.step(gradients)[0]
        state = own.optimizer.state[own.params[0]]
        u = u - 0.05 * h / np.sqrt(state["max_exp_avg_sq"].numpy())
        np.testing.assert_allclose(theta + state["ahead"].numpy(), u, rtol=0, atol=1e-13)


def test_opt_amsgrad_extrapolates_linear_recurrences_to_their_limit() -> None:
    limit, modes = np.array([3.0, -1.0, 0.5, 2.0]), np.diag([0.9, -0.5, 0.3])
    vectors = np.array([[1.0, 2.0, -1.0], [0.5, -1.0, 2.0], [2.0, 0.0, 1.0], [-1.0, 1.0, 1.0]])
    hyper = {"hint": "extrapolation", "span": 4, "ridge": 1e-15}
    own = Run("opt-amsgrad", [np.zeros(2), np.zeros(2)], **hyper)
    for t in range(6):
        g = limit + vectors @ np.linalg.matrix_power(modes, t) @ np.ones(3)
        own.step([g[:2], g[2:]])
        state = [own.optimizer.state[p]["hint"].numpy() for p in own.params]
        found = np.concatenate(state)
        if t < 2:
            np.testing.assert_allclose(found, g, rtol=1e-14)
    np.testing.assert_allclose(found, limit, rtol=1e-8)


def test_opt_amsgrad_with_a_span_of_one_repeats_the_gradient() -> None:
    setting = noise((6,), (2, 3))
    one, other = [
        path_of("opt-amsgrad", setting.gradients(), setting.start(), lr=0.05, **hyper)
        for hyper in ({}, {"hint": "extrapolation", "span": 1})
    ]
    assert_paths(one, other, 1e-14)


def test_opt_amsgrad_keeps_as_many_gradients_as_it_extrapolates() -> None:
    for hyper, tensors in (({}, 5), ({"hint": "extrapolation", "span": 3}, 8)):
        own = Run("opt-amsgrad", [VECTOR], **hyper)
        own.step(p3)
        assert len(own.state()) == tensors


def test_opt_amsgrad_conforms_when_it_extrapolates() -> None:
    check_rule("opt-amsgrad", sharding=False, hint="extrapolation", span=3)


# Gravity


@settings(deadline=None, max_examples=10)
@given(found=st.lists(st.floats(-3, 3), min_size=1, max_size=6), largest=st.floats(1.0, 3.0))
def test_gravity_bounds_the_damped_gradient(found: list[float], largest: float) -> None:
    # The largest entry c sets in damping at 1 / c, where the damped gradient is 1 / (2 c).
    g = np.clip([*found, 1 / largest], -largest, largest)
    g = np.append(g, largest)
    moves = _moves("gravity", [[g]], np.zeros(len(g)), lr=0.1, alpha=0.0, first_t=0)[0]
    limit = 0.1 * 0.5 / (2 * largest)  # b is 1/2 at first
    assert (np.abs(moves) <= limit * (1 + 1e-12)).all()
    np.testing.assert_allclose(moves[-2], -limit, rtol=1e-12)


def test_gravity_is_momentum_descent_on_small_gradients() -> None:
    g = 1e-5 * np.array([1.0, -2.0, 0.5])
    moves = _moves("gravity", [[g]] * 3, np.zeros(3), alpha=0.0, first_t=0)
    # b = (0.9 t + 1) / (t + 2) for t = 0, 1, 2
    share, expected = 0.0, []
    for b in (1 / 2, 1.9 / 3, 2.8 / 4):
        share = b * share + (1 - b)
        expected.append(-0.1 * share * g)
    np.testing.assert_allclose(moves, expected, rtol=1e-8)


def test_gravity_starts_with_a_draw_of_its_seed() -> None:
    def first(**hyper: Any) -> np.ndarray:
        return Run("gravity", [np.zeros((50, 40))], **hyper).step([np.zeros((50, 40))])[0]

    moves = first(lr=0.3, alpha=0.02, beta=0.5)
    assert np.isfinite(moves).all()
    # b = (0.5 + 1) / 3, and lr V has deviation alpha whatever lr.
    assert abs(moves.std() / (0.5 * 0.02) - 1) < 0.05
    assert abs(moves.mean()) < 0.05 * 0.01
    np.testing.assert_array_equal(moves, first(lr=0.3, alpha=0.02, beta=0.5))
    np.testing.assert_allclose(moves, first(lr=0.1, alpha=0.02, beta=0.5), rtol=1e-12)
    assert (moves != first(lr=0.3, alpha=0.02, beta=0.5, seed=1)).all()


def test_gravity_does_not_divide_by_a_gradient_of_zero() -> None:
    points = Run("gravity", [VECTOR], alpha=0.0).step([np.zeros(3)])[0]
    np.testing.assert_array_equal(points, VECTOR)
