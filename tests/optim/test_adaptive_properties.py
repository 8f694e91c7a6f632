"""What the papers of the adaptive rules and of Lion say that they do."""

import numpy as np
import pytest
import torch
from rule_runs import Run, assert_paths, noise, path_of

from reference import REFERENCES, run
from reference.problems import (
    VECTOR,
    p3,
)
from thalweg.core.errors import UsageError
from thalweg.modifier import ClipLayer

# AMSGrad


def test_amsgrad_keeps_a_monotone_maximum() -> None:
    setting = noise((4, 3))
    own = Run("amsgrad", setting.start(), lr=0.1, betas=(0.9, 0.5))
    script = setting.gradients()
    loop = run(
        REFERENCES["amsgrad"], setting.start(), lambda t, p: script[t - 1], 20, betas=(0.9, 0.5)
    )
    before = np.zeros((4, 3))
    for t, gradients in enumerate(script):
        own.step(gradients)
        expected = loop[t].extra["largest"][0]
        held = [x for x in own.state() if x.shape == (4, 3) and np.allclose(x, expected, 1e-12)]
        assert held, f"no state tensor is the maximum after step {t + 1}"
        assert (held[0] >= before).all()
        before = held[0]


def test_amsgrad_equals_adam_while_v_never_decreases() -> None:
    script = [[np.array([1.0, -2.0, 0.5]) * (1 + t) * (-1) ** t] for t in range(20)]
    paths = [path_of(rule, script, [VECTOR], lr=0.1) for rule in ("amsgrad", "adam")]
    assert_paths(*paths, 1e-14)


# Adam


def test_adam_moves_by_lr_at_first_whatever_the_size_of_the_gradient() -> None:
    for size in (1e-3, 1.0, 1e3):
        g = size * np.array([1.0, -2.0, 0.0])
        points = Run("adam", [VECTOR], lr=0.1, eps=1e-30).step([g])[0]
        np.testing.assert_allclose(points - VECTOR, [-0.1, 0.1, 0.0], rtol=0, atol=1e-14)


def test_decoupled_decay_of_adamw_is_independent_of_the_gradients() -> None:
    zero = [np.zeros(3)]
    points = path_of("adamw", [zero] * 10, [VECTOR], lr=0.1, weight_decay=0.5)[-1][0]
    np.testing.assert_allclose(points, VECTOR * 0.95**10, rtol=1e-14)


# Lion


def test_lion_moves_every_entry_by_exactly_lr() -> None:
    setting = noise((7,), (3, 4))
    before = setting.start()
    own = Run("lion", before, lr=0.125)
    for gradients in setting.gradients():
        after = own.step(gradients)
        for a, b in zip(after, before, strict=True):
            moved = np.abs(a - b)
            still = moved == 0
            np.testing.assert_allclose(moved[~still], 0.125, rtol=0, atol=1e-15)
        before = after
    still = Run("lion", [VECTOR], lr=0.125).step([np.array([0.0, 1.0, -1.0])])[0]
    np.testing.assert_array_equal(still, VECTOR + np.array([0.0, -0.125, 0.125]))


def test_lion_does_not_see_the_gradients_scale() -> None:
    setting = noise((7,))
    script = setting.gradients()
    scaled = [[1024 * g for g in gradients] for gradients in script]
    paths = [path_of("lion", one, setting.start(), lr=0.01) for one in (script, scaled)]
    assert_paths(*paths, 0.0)


def test_lion_with_equal_betas_is_sign_descent_with_momentum() -> None:
    setting = noise((7,))
    theta, m, expected = setting.start()[0], np.zeros(7), []
    for (g,) in setting.gradients():
        m = 0.8 * m + 0.2 * g
        theta = theta - 0.01 * np.sign(m)
        expected.append([theta])
    found = path_of("lion", setting.gradients(), setting.start(), lr=0.01, betas=(0.8, 0.8))
    assert_paths(found, expected, 1e-14)


# AdaBelief


def test_adabelief_starts_with_lr_over_beta1() -> None:
    g = np.array([3.0, -0.01, 0.5])
    points = Run("adabelief", [VECTOR], lr=0.1, rectify=False, eps=1e-40).step([g])[0]
    np.testing.assert_allclose(points - VECTOR, -np.sign(g) * 0.1 / 0.9, rtol=1e-12)


def test_adabelief_strides_out_while_the_gradient_is_constant() -> None:
    script = [[np.array([1.0, -2.0, 0.5])]] * 60
    path = [VECTOR, *(p[0] for p in path_of("adabelief", script, [VECTOR], rectify=False, lr=0.1))]
    lengths = np.abs(np.diff(path, axis=0))
    assert (np.diff(lengths, axis=0) > 0).all()
    assert (lengths[-1] > 3 * lengths[0]).all()


def test_adabelief_keeps_a_maximum_only_with_amsgrad_and_not_rectified() -> None:
    for amsgrad, tensors in ((False, 2), (True, 3)):
        own = Run("adabelief", [VECTOR], rectify=False, amsgrad=amsgrad)
        own.step([np.ones(3)])
        assert len(own.state()) == tensors
    with pytest.raises(UsageError, match="amsgrad"):
        Run("adabelief", [VECTOR], amsgrad=True)


def test_adabelief_is_momentum_descent_until_the_variance_is_known() -> None:
    setting = noise((7,), steps=7)
    script = setting.gradients()
    found = path_of("adabelief", script, setting.start(), lr=0.1)
    theta, m, expected = setting.start()[0], np.zeros(7), []
    for t, (g,) in enumerate(script, start=1):
        m = 0.9 * m + 0.1 * g
        theta = theta - 0.1 * m / (1 - 0.9**t)
        expected.append([theta])
    assert_paths(found[:5], expected[:5], 1e-14)
    assert np.abs(found[6][0] - expected[6][0]).max() > 1e-3


# AdEMAMix


def test_ademamix_without_the_slow_average_is_adamw() -> None:
    setting = noise((7,), (3, 4), ())
    hyper = {"lr": 0.1, "eps": 1e-3, "weight_decay": 0.2}
    one = path_of(
        "ademamix",
        setting.gradients(),
        setting.start(),
        betas=(0.9, 0.99, 0.999),
        alpha=0.0,
        beta3_warmup=5,
        **hyper,
    )
    two = path_of("adamw", setting.gradients(), setting.start(), betas=(0.9, 0.99), **hyper)
    assert_paths(one, two, 1e-15)


def test_ademamix_is_at_full_strength_from_the_end_of_the_warm_ups_on() -> None:
    # Constant gradients and b1 = b3: both averages are the same up to the bias correction.
    script = [[np.ones(2)]] * 12
    hyper = {"lr": 0.1, "betas": (0.5, 0.999, 0.5), "eps": 0.0, "alpha": 4.0, "alpha_warmup": 4}
    path = [np.zeros(2), *(p[0] for p in path_of("ademamix", script, [np.zeros(2)], **hyper))]
    steps = -np.diff(path, axis=0)[:, 0] / 0.1
    expected = [1 + 4.0 * min(t / 4, 1) * (1 - 0.5**t) for t in range(1, 13)]
    np.testing.assert_allclose(steps, expected, rtol=1e-11)


def test_ademamix_keeps_no_fast_mean_without_momentum() -> None:
    for beta1, tensors in ((0.0, 2), (0.9, 3)):
        own = Run("ademamix", [VECTOR], betas=(beta1, 0.999, 0.9999))
        own.step(p3)
        assert len(own.state()) == tensors


# Adafactor


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4)])
def test_adafactor_reconstructs_squares_of_rank_one(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    left, right = rng.uniform(0.1, 3, (*shape[:-1], 1)), rng.uniform(0.1, 3, (*shape[:-2], 1, 4))
    g = left * right * rng.choice([-1.0, 1.0], shape)
    start = rng.standard_normal(shape)
    points = Run("adafactor", [start], lr=0.1).step([g])[0]
    size = 0.1 * np.sqrt(np.mean(start**2))
    np.testing.assert_allclose(points, start - size * np.sign(g), rtol=0, atol=1e-14)


def test_adafactor_clips_the_rms_of_its_step() -> None:
    setting = noise((4, 5), (6,), steps=25)
    before = setting.start()
    own = Run("adafactor", before, lr=0.2, d=1.1)
    hit = 0
    for t, gradients in enumerate(setting.gradients(), start=1):
        after = own.step(gradients)
        for a, b in zip(after, before, strict=True):
            limit = 1.1 * np.sqrt(np.mean(b**2)) * min(0.2, t**-0.5)
            length = np.sqrt(np.mean((a - b) ** 2))
            assert length <= limit * (1 + 1e-12)
            hit += bool(length > limit * (1 - 1e-9))
        before = after
    assert hit > 5


def test_adafactor_forgets_its_start() -> None:
    # b2(1) = 0: the first averages are the first squares.
    g = np.array([5.0, -0.2, 0.01])
    points = Run("adafactor", [VECTOR], lr=0.1).step([g])[0]
    size = 0.1 * np.sqrt(np.mean(VECTOR**2))
    np.testing.assert_allclose(points, VECTOR - size * np.sign(g), rtol=0, atol=1e-14)


def test_adafactor_without_floors_does_not_see_the_gradients_scale() -> None:
    g = 1e-30 * np.array([5.0, -0.2, 0.01])
    points = Run("adafactor", [VECTOR], lr=0.1, eps=(0.0, 1e-3)).step([g])[0]
    size = 0.1 * np.sqrt(np.mean(VECTOR**2))
    np.testing.assert_allclose(points, VECTOR - size * np.sign(g), rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", [(3,), (1, 3)])
def test_adafactor_in_the_papers_form_adds_its_floor_to_the_squares(shape: tuple[int, ...]) -> None:
    g = 1e-15 * np.array([5.0, -0.2, 0.01]).reshape(shape)
    start = VECTOR.reshape(shape)
    points = Run("adafactor", [start], lr=0.1, form="paper").step([g])[0]
    size = 0.1 * np.sqrt(np.mean(VECTOR**2))
    u = g / np.sqrt(g**2 + 1e-30)
    np.testing.assert_allclose(points, start - size * u, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_adafactor_in_the_papers_form_has_a_floor_that_16_bits_hold(dtype: torch.dtype) -> None:
    start = [np.ones((2, 3)), np.ones(3)]
    own = Run("adafactor", start, dtype=dtype, lr=0.25, form="paper", beta1=0.5)
    assert_paths([own.step([0 * x for x in start])], [start], 0)
    assert_paths([own.step(start)], [[0.875 * x for x in start]], 0)


def test_adafactor_averages_steps_beside_any_number_of_tensors() -> None:
    own = Run("adafactor", [np.ones((2, 3)), np.ones(5)], beta1=0.9)
    own.step([np.ones((2, 3)), np.ones(5)])
    assert [x.shape for x in own.state(1)] == [(5,), (5,)]
    np.testing.assert_allclose(own.optimizer.state[own.params[0]]["exp_avg"], 1e-3, rtol=1e-12)


@pytest.mark.parametrize("beta1", [0.0, 0.8])
def test_adafactor_steps_tensor_by_tensor_where_each_has_numbers_of_its_own(beta1: float) -> None:
    setting = noise((6,), (6,), (4, 5), (2, 3, 4))
    clipped = [
        [g * min(1.0, 2.0 / (np.sqrt(np.sum(g**2)) + 1e-6)) for g in gradients]
        for gradients in setting.gradients()
    ]
    hyper = {"lr": 0.2, "beta1": beta1}
    expected = path_of("adafactor", clipped, setting.start(), **hyper)
    script, modifiers = setting.gradients(), [ClipLayer(2.0)]
    found = path_of("adafactor", script, setting.start(), modifiers=modifiers, **hyper)
    assert_paths(found, expected, 1e-13)


def test_adafactor_keeps_a_row_and_a_column_of_each_matrix() -> None:
    own = Run("adafactor", [np.ones((2, 3, 4)), np.ones(5)])
    own.step([np.ones((2, 3, 4)), np.ones(5)])
    assert [x.shape for x in own.state(0)] == [(2, 3, 1), (2, 1, 4)]
    assert [x.shape for x in own.state(1)] == [(5,)]
