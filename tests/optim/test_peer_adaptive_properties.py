"""Adaptive rules that other libraries have: what their papers say that they do."""

from typing import Any

import numpy as np
import pytest
import torch
from rule_runs import Run, assert_paths, noise, path_of

from reference.problems import VECTOR, counter_example, p3
from thalweg import optim

# Yogi


def test_yogi_moves_its_divisor_by_the_newest_square_only() -> None:
    own = Run("yogi", [VECTOR], betas=(0.9, 0.9), initial_accumulator=1.0)
    before = np.ones(3)
    for (g,) in noise((3,)).gradients():
        own.step([g])
        after = own.state()[1]
        np.testing.assert_allclose(np.abs(after - before), 0.1 * g**2, rtol=0, atol=1e-13)
        before = after


def test_yogi_forgets_large_gradients_more_slowly_than_adam() -> None:
    script = [np.full(3, 10.0)] + [np.full(3, 0.1)] * 50
    left = {}
    for rule, hyper in (("yogi", {"initial_accumulator": 0.0}), ("adam", {})):
        own = Run(rule, [VECTOR], betas=(0.9, 0.9), **hyper)
        for g in script:
            own.step([g])
        left[rule] = own.state()[1].min()
    assert left["yogi"] > 9.9 * 0.99
    assert left["adam"] < 0.1


# QHAdam


def test_qhadam_without_quasi_hyperbolic_shares_is_adam() -> None:
    setting = noise((7,), (3, 4))
    hyper: dict[str, Any] = {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.2}
    script = setting.gradients()
    one = path_of("qhadam", script, setting.start(), **hyper)
    two = path_of("adam", script, setting.start(), **hyper)
    assert_paths(one, two, 1e-13)
    one = path_of("qhadam", script, setting.start(), decouple_weight_decay=True, **hyper)
    two = path_of("adamw", script, setting.start(), **hyper)
    assert_paths(one, two, 1e-13)


def test_qhadam_without_means_is_sign_descent() -> None:
    g = np.array([3.0, -0.01, 0.0])
    own = Run("qhadam", [VECTOR], nus=(0.0, 0.0), lr=0.125, eps=1e-30)
    for t in range(1, 4):
        np.testing.assert_allclose(own.step([g])[0], VECTOR - t * 0.125 * np.sign(g), rtol=1e-14)


# ADOPT


def test_adopt_converges_where_adam_does_not() -> None:
    gradient, lr, example = counter_example(3.0)
    ends = {}
    for rule in ("adopt", "adam"):
        p = torch.nn.Parameter(torch.tensor(example["start"], dtype=torch.float64))
        betas = (0.0, example["beta2"])
        optimizer = optim.create(rule, [p], lr=1.0, betas=betas, execution="loop")
        path = []
        for t in range(1, 3001):
            optimizer.param_groups[0]["lr"] = lr(t)
            p.grad = torch.full_like(p, gradient(t))
            optimizer.step()
            with torch.no_grad():
                path.append(float(p.clamp_(-1, 1)))
        ends[rule] = path[-300:]
    assert max(ends["adopt"]) < -0.9
    assert min(ends["adam"]) > 0.9


def test_adopt_only_looks_at_its_first_gradient() -> None:
    own = Run("adopt", [VECTOR], lr=0.1, weight_decay=0.5, decouple=True)
    np.testing.assert_array_equal(own.step(p3)[0], VECTOR)
    assert (own.step(p3)[0] != VECTOR).all()


def test_adopt_bounds_an_entrys_step() -> None:
    script = [[np.full(3, 1e-3)], [np.full(3, 1e3)], [np.full(3, 1e9)]]
    path = [VECTOR, *(p[0] for p in path_of("adopt", script, [VECTOR], betas=(0.0, 0.9), lr=0.1))]
    moved = -np.diff(path, axis=0)[:, 0]
    np.testing.assert_allclose(moved, [0.0, 0.1, 0.1 * 2**0.25], rtol=0, atol=1e-15)


# Adan


def test_adan_without_differences_is_adam() -> None:
    setting = noise((7,), (3, 4))
    hyper: dict[str, Any] = {"lr": 0.1, "eps": 1e-3, "weight_decay": 0.2}
    one = path_of(
        "adan",
        setting.gradients(),
        setting.start(),
        betas=(0.8, 0.0, 0.95),
        no_prox=True,
        **hyper,
    )
    two = path_of("adamw", setting.gradients(), setting.start(), betas=(0.8, 0.95), **hyper)
    assert_paths(one, two, 1e-14)


# AdamC


def test_adamc_at_a_constant_rate_is_adamw() -> None:
    setting = noise((7,), (3, 4))
    hyper: dict[str, Any] = {"lr": 0.1, "eps": 1e-3, "weight_decay": 0.3}
    paths = [
        path_of(rule, setting.gradients(), setting.start(), **hyper) for rule in ("adamc", "adamw")
    ]
    assert_paths(*paths, 1e-15)


def test_adamc_decay_falls_with_the_square_of_the_rate() -> None:
    zero = [np.zeros(3)]
    for normalized, exponent in ((True, 2), (False, 1)):
        own = Run(
            "adamc",
            [VECTOR],
            lr=lambda t: 0.4 / 2 ** (t - 1),
            weight_decay=0.5,
            normalized=normalized,
        )
        points, before = [], VECTOR
        for _ in range(4):
            after = own.step(zero)[0]
            points.append(1 - after[0] / before[0])
            before = after
        expected = 0.2 / 2.0 ** (exponent * np.arange(4))
        np.testing.assert_allclose(points, expected, rtol=1e-12)


def test_adamc_gradients_stay_in_proportion_to_normalised_weights() -> None:
    # A loss of random directions in which the weight's length has no part.
    grown = {}
    for rule in ("adamc", "adamw"):
        rng = np.random.default_rng(5)
        steps = 3000
        schedule = np.concatenate([np.full(steps // 2, 0.02), np.linspace(0.02, 4e-4, steps // 2)])
        own = Run(
            rule,
            [rng.standard_normal(40)],
            lr=lambda t, schedule=schedule: float(schedule[t - 1]),
            weight_decay=1.0,
            betas=(0.9, 0.99),
        )
        sizes = []
        for _ in range(steps):
            p = own.points[0]
            unit = p / np.linalg.norm(p)
            g = rng.standard_normal(40)
            g = (g - g @ unit * unit) / np.linalg.norm(p)
            sizes.append(np.linalg.norm(g))
            own.step([g])
        grown[rule] = np.mean(sizes[-100:]) / np.mean(sizes[steps // 2 - 100 : steps // 2])
    assert grown["adamw"] > 1.3
    assert abs(grown["adamc"] - 1) < 0.15


# Padam


def test_padam_at_both_ends_is_amsgrad_and_momentum() -> None:
    setting = noise((7,), (3, 4))
    script = setting.gradients()
    hyper: dict[str, Any] = {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-30, "weight_decay": 0.2}
    # No entry of the first gradient may be 0: 0 / eps^(2 partial) depends on eps alone.
    script[0] = [np.where(g == 0, 0.1, g) for g in script[0]]
    one = path_of("padam", script, setting.start(), partial=0.5, **hyper)
    assert_paths(one, path_of("amsgrad", script, setting.start(), **hyper), 1e-13)
    one = path_of("padam", script, setting.start(), partial=0.0, **hyper)
    theta, m, expected = setting.start(), [np.zeros(7), np.zeros((3, 4))], []
    for t, gradients in enumerate(script, start=1):
        rate = 0.1 * np.sqrt(1 - 0.9**t) / (1 - 0.8**t)
        m = [0.8 * a + 0.2 * (g + 0.2 * p) for a, g, p in zip(m, gradients, theta, strict=True)]
        theta = [p - rate * a for p, a in zip(theta, m, strict=True)]
        expected.append(theta)
    assert_paths(one, expected, 1e-12)


@pytest.mark.parametrize("partial", [0.5, 0.25, 0.125, 0.0625, 0.2, 0.01])
@pytest.mark.filterwarnings("error")  # which would say that there is no kernel
def test_padam_divides_by_the_power_of_the_root(partial) -> None:
    setting = noise((7,), (3, 4))
    script = setting.gradients()
    hyper: dict[str, Any] = {"lr": 0.1, "eps": 1e-3, "execution": "compiled"}
    one = path_of("padam", script, setting.start(), partial=partial, **hyper)
    m, v, theta, expected = 0.0, 0.0, np.concatenate([x.ravel() for x in setting.start()]), []
    w = v
    for t, gradients in enumerate(script, start=1):
        g = np.concatenate([x.ravel() for x in gradients])
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = np.maximum(w, v)
        rate = 0.1 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        theta = theta - rate * m / (np.sqrt(w) + 1e-3) ** (2 * partial)
        expected.append([theta[:7], theta[7:].reshape(3, 4)])
    assert_paths(one, expected, 1e-12)


def test_padam_without_amsgrad_keeps_two_tensors() -> None:
    for amsgrad, tensors in ((False, 2), (True, 3)):
        own = Run("padam", [VECTOR], amsgrad=amsgrad)
        own.step(p3)
        assert len(own.state()) == tensors


# FAdam


def test_fadam_without_clipping_mean_and_decay_is_adam_without_mean() -> None:
    setting = noise((7,), (3, 4))
    hyper: dict[str, Any] = {"lr": 0.1, "betas": (0.0, 0.9), "eps": 1e-30, "weight_decay": 0.0}
    script = setting.gradients()
    one = path_of("fadam", script, setting.start(), clip=1e6, **hyper)
    assert_paths(one, path_of("adam", script, setting.start(), **hyper), 1e-12)


def test_fadam_steps_are_bounded_by_tensor() -> None:
    setting = noise((7,), (3, 4))
    before = setting.start()
    own = Run("fadam", before, lr=0.1, clip=0.3, weight_decay=0.5)
    for gradients in setting.gradients():
        after = own.step(gradients)
        for a, b in zip(after, before, strict=True):
            assert np.sqrt(np.mean((a - b) ** 2)) <= 0.1 * 0.3 * 1.5 * (1 + 1e-12)
        before = after


# StableAdamW


def test_stableadamw_with_a_high_threshold_is_adamw() -> None:
    setting = noise((7,), (3, 4))
    hyper: dict[str, Any] = {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3}
    script = setting.gradients()
    one = path_of("stableadamw", script, setting.start(), clip_threshold=1e6, **hyper)
    two = path_of("adamw", script, setting.start(), **hyper)
    assert_paths(one, two, 1e-13)


def test_stableadamw_shortens_the_step_after_a_spike() -> None:
    script = [[np.full(4, 1.0)]] * 50 + [[np.full(4, 100.0)]]
    hyper: dict[str, Any] = {"betas": (0.0, 0.99), "weight_decay": 0.0, "lr": 0.1, "eps": 1e-16}
    steps = {}
    for rule in ("stableadamw", "adamw"):
        path = path_of(rule, script, [np.zeros(4)], **hyper)
        steps[rule] = path[-2][0] - path[-1][0]
    assert (steps["adamw"] > 0.5).all()
    np.testing.assert_allclose(steps["stableadamw"], 0.1, rtol=1e-12)


def test_stableadamw_is_calm_about_entries_without_gradient() -> None:
    points = Run("stableadamw", [VECTOR], weight_decay=0.0).step([np.zeros(3)])[0]
    np.testing.assert_array_equal(points, VECTOR)
