"""What the papers of Schedule-Free, Prodigy, Muon and SOAP say that they do."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from rule_runs import Run, assert_paths, feed, noise, parameters, path_of

from reference.loop import Arrays
from reference.problems import (
    PROBLEMS,
    VECTOR,
    p1,
)
from reference.settings import Setting
from thalweg import optim
from thalweg.engine import newton_schulz

# Schedule-Free


def test_schedule_free_evaluates_at_the_running_mean_of_z() -> None:
    beta = 0.8
    setting = noise((5,), (3, 2))
    own = Run("schedule-free-adamw", setting.start(), lr=0.1, betas=(beta, 0.99), weight_decay=0.1)
    total = [np.zeros(5), np.zeros((3, 2))]
    for t, gradients in enumerate(setting.gradients(), start=1):
        y = own.step(gradients)
        x = own.evaluated
        for i in range(2):
            total[i] += (y[i] - beta * x[i]) / (1 - beta)  # z
            np.testing.assert_allclose(x[i], total[i] / t, rtol=0, atol=1e-12)


def test_schedule_free_without_averaging_is_adam_without_momentum() -> None:
    setting = noise((5,))
    script = setting.gradients()
    hyper: dict[str, Any] = {"lr": 0.1, "eps": 1e-3}
    one = path_of("schedule-free-adamw", script, setting.start(), betas=(1e-9, 0.99), **hyper)
    two = path_of("adam", script, setting.start(), betas=(0.0, 0.99), **hyper)
    assert_paths(one, two, 1e-7)


def test_schedule_free_with_beta_one_walks_on_the_averages() -> None:
    setting = noise((5,))
    own = Run("schedule-free-adamw", setting.start(), lr=0.1, betas=(1 - 1e-9, 0.99))
    for gradients in setting.gradients():
        assert_paths([own.step(gradients)], [own.evaluated], 1e-7)


def test_schedule_free_switches_back_exactly() -> None:
    setting = noise((5,))
    own, undisturbed = (Run("schedule-free-adamw", setting.start(), lr=0.1) for _ in range(2))
    for gradients in setting.gradients():
        own.optimizer.eval()
        own.optimizer.eval()
        own.optimizer.train()
        own.optimizer.train()
        assert_paths([own.step(gradients)], [undisturbed.step(gradients)], 0.0)


def test_schedule_free_trains_on_after_loading_evaluation_weights() -> None:
    setting = noise((5,))
    own = Run("schedule-free-adamw", setting.start(), lr=0.1)
    for gradients in setting.gradients():
        y = own.step(gradients)
    own.optimizer.eval()
    other = Run("schedule-free-adamw", own.points, lr=0.1)
    other.optimizer.load_state_dict(own.optimizer.state_dict())
    np.testing.assert_array_equal(other.points[0], own.points[0])
    other.optimizer.train()
    np.testing.assert_allclose(other.points[0], y[0], rtol=0, atol=1e-14)


# Prodigy


def _prodigy_on_p1(factor: float, steps: int, **hyper: Any) -> tuple[list[Arrays], list[float]]:
    own = Run("prodigy", [VECTOR], **hyper)
    path, distances = [], []
    for _ in range(steps):
        path.append(own.step(lambda t, points: [factor * p1(t, points)[0]]))
        distances.append(own.optimizer.param_groups[0]["d"])
    return path, distances


def test_prodigy_never_shrinks_its_distance() -> None:
    _, distances = _prodigy_on_p1(1.0, 60)
    assert (np.diff(distances) >= 0).all()
    assert distances[0] >= 1e-6
    assert distances[-1] > 0.3


def test_prodigy_does_not_see_the_losss_scale() -> None:
    one, d_one = _prodigy_on_p1(1.0, 40, eps=1e-30)
    two, d_two = _prodigy_on_p1(1000.0, 40, eps=1e-30)
    assert_paths(one, two, 1e-12)
    np.testing.assert_allclose(d_one, d_two, rtol=1e-12)


def test_prodigy_grows_no_faster_than_told() -> None:
    _, distances = _prodigy_on_p1(1.0, 40, growth_rate=1.2)
    ratios = np.divide(distances[1:], distances[:-1])
    leap = int(np.argmax(np.array(distances) > 1e-6))
    assert (ratios[leap:] <= 1.2 * (1 + 1e-12)).all()
    assert (ratios > 1.19).any()


def test_prodigy_waits_for_a_gradient() -> None:
    own = Run("prodigy", [VECTOR], weight_decay=0.1)
    np.testing.assert_array_equal(own.step([np.zeros(3)])[0], VECTOR)
    assert own.optimizer.param_groups[0]["d"] == 1e-6
    fresh = Run("prodigy", [VECTOR], weight_decay=0.1).step([np.ones(3)])
    np.testing.assert_array_equal(own.step([np.ones(3)]), fresh)


@pytest.mark.parametrize("safeguard", [False, True])
@pytest.mark.parametrize("execution", ["loop", "foreach", "compiled"])
def test_prodigy_does_not_see_a_step_without_a_learning_rate(
    execution: str, safeguard: bool
) -> None:
    setting = noise((5,), (3, 2), steps=20, drift=3.0)
    script = setting.gradients()
    hyper: dict[str, Any] = {"d0": 1e-2, "safeguard_warmup": safeguard, "weight_decay": 0.1}
    hyper |= {"use_bias_correction": True, "d_coef": 8.0, "execution": execution}
    own = Run("prodigy", setting.start(), lr=lambda t: 0.0 if t in (1, 6) else 0.8, **hyper)
    path = [own.step(gradients) for gradients in (script[3], *script[:4], script[7], *script[4:])]
    np.testing.assert_array_equal(path[0][1], setting.start()[1])
    assert_paths([path[5]], [path[4]], 0)
    expected = Run("prodigy", setting.start(), lr=0.8, **hyper)
    assert_paths([*path[1:5], *path[6:]], [expected.step(one) for one in script], 0)
    assert own.optimizer.param_groups[0]["d"] == expected.optimizer.param_groups[0]["d"] > 0.01
    for i in (0, 1):
        for a, b in zip(own.state(i), expected.state(i), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("safeguard", [False, True])
def test_prodigy_leaves_a_frozen_group_out(safeguard: bool) -> None:
    setting = noise((5,), (3, 2), steps=20, drift=1.5)
    script, (start, frozen) = setting.gradients(), setting.start()
    hyper: dict[str, Any] = {"d0": 1e-2, "safeguard_warmup": safeguard}
    alone = Run("prodigy", [start], **hyper)
    params = parameters([start, frozen])
    resting: dict[str, Any] = {"params": params[1:], "lr": 0.0, "eps": 0.0, "weight_decay": 0.1}
    groups = [{"params": params[:1]}, resting]
    optimizer = optim.Prodigy(groups, execution="loop", **hyper)
    for gradients in script:
        feed(params, gradients)
        optimizer.step()
        np.testing.assert_array_equal(alone.step(gradients[:1])[0], params[0].detach().numpy())
        np.testing.assert_array_equal(params[1].detach().numpy(), frozen)
        for name in ("d", "d_max", "d_numerator", "k"):
            expected = alone.optimizer.param_groups[0][name]
            assert [group[name] for group in optimizer.param_groups] == [expected] * 2
    assert expected == 21
    for name in ("exp_avg", "exp_avg_sq", "s"):
        assert not optimizer.state[params[1]][name].any()


def test_prodigy_counts_from_the_first_gradient() -> None:
    hyper: dict[str, Any] = {"use_bias_correction": True, "d0": 1e-2}
    own, fresh = Run("prodigy", [VECTOR], **hyper), Run("prodigy", [VECTOR], **hyper)
    own.step([np.zeros(3)])
    for _ in range(5):
        np.testing.assert_array_equal(own.step(p1), fresh.step(p1))


def test_prodigy_has_one_distance_for_all_groups() -> None:
    setting = noise((5,), (3, 2), steps=25, drift=1.5)
    script = setting.gradients()
    expected = path_of("prodigy", script, setting.start(), d0=1e-3)[-1]
    params = parameters(setting.start())
    groups: list[dict[str, Any]] = [{"params": [p]} for p in params]
    optimizer = optim.Prodigy(groups, d0=1e-3, execution="loop")
    for gradients in script:
        feed(params, gradients)
        optimizer.step()
    for p, b in zip(params, expected, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), b, rtol=1e-12)
    assert optimizer.param_groups[0]["d"] == optimizer.param_groups[1]["d"]


# Muon


def test_muon_does_not_see_the_gradients_scale() -> None:
    setting = noise((4, 3))
    script = setting.gradients()
    scaled = [[1000 * g for g in gradients] for gradients in script]
    paths = [path_of("muon", one, setting.start(), eps=0.0) for one in (script, scaled)]
    assert_paths(*paths, 1e-12)


def test_muon_with_a_heavy_ball_buffer_is_the_same() -> None:
    setting = noise((4, 3))
    theta, b, expected = setting.start()[0], np.zeros((4, 3)), []
    for (g,) in setting.gradients():
        b = 0.95 * b + g
        o = newton_schulz(torch.tensor(g + 0.95 * b)).numpy()
        theta = theta - 0.02 * math.sqrt(4 / 3) * o
        expected.append([theta])
    assert_paths(path_of("muon", setting.gradients(), setting.start()), expected, 1e-6)


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
def test_muon_takes_convolutions_as_matrices(adjust: str) -> None:
    setting = noise((6, 2, 1, 2))
    flat = [[g.reshape(6, 4) for g in gradients] for gradients in setting.gradients()]
    one = path_of("muon", setting.gradients(), setting.start(), adjust_lr_fn=adjust)
    two = path_of("muon", flat, [setting.start()[0].reshape(6, 4)], adjust_lr_fn=adjust)
    assert_paths([[p.reshape(6, 4) for p in points] for points in one], two, 1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_muon_iterates_in_single_precision_on_cpus(dtype: torch.dtype) -> None:
    g = np.random.default_rng(5).standard_normal((4, 4))
    own = Run("muon", [np.zeros((4, 4))], dtype, lr=1.0, momentum=0.0, nesterov=False)
    own.step([g])
    expected = -newton_schulz(torch.tensor(g).to(dtype).float()).to(dtype)
    torch.testing.assert_close(own.params[0].detach(), expected, rtol=0, atol=0)


# SOAP


def test_soap_on_a_vector_is_adam_one_call_late() -> None:
    setting = noise((6,))
    script = setting.gradients()
    hyper: dict[str, Any] = {"lr": 0.1, "betas": (0.95, 0.95), "eps": 1e-30, "weight_decay": 0.0}
    late = path_of("soap", script, setting.start(), **hyper)
    np.testing.assert_array_equal(late[0][0], setting.start()[0])
    assert_paths(late[1:], path_of("adam", script[1:], setting.start(), **hyper), 1e-13)


def test_soap_puts_eps_before_the_bias_correction() -> None:
    g = np.array([1.0, -2.0, 0.5])
    own = Run("soap", [VECTOR], lr=0.1, eps=0.5, weight_decay=0.0)
    own.step([g])
    found = own.step([g])[0]
    root = math.sqrt(0.05)
    expected = VECTOR - 0.1 * root / 0.05 * 0.05 * g / (root * np.abs(g) + 0.5)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


def test_soap_keeps_its_bases_orthogonal() -> None:
    setting = Setting("", "", {}, shapes=((4, 3),), steps=20, full=20)
    own = Run("soap", setting.start(), lr=0.1, precondition_frequency=1)
    for gradients in setting.gradients():
        own.step(gradients)
        for size in (4, 3):
            square = [x for x in own.state() if x.shape == (size, size)]
            orthogonal = [q for q in square if np.allclose(q.T @ q, np.eye(size), 0, 1e-13)]
            assert len(square) == 2
            assert len(orthogonal) == 1


def test_soap_with_limits_below_every_axis_is_adam() -> None:
    setting = noise((4, 3))
    script = setting.gradients()
    hyper: dict[str, Any] = {"lr": 0.1, "betas": (0.95, 0.95), "eps": 1e-30, "weight_decay": 0.0}
    late = path_of("soap", script, setting.start(), max_precond_dim=2, **hyper)
    assert_paths(late[1:], path_of("adam", script[1:], setting.start(), **hyper), 1e-13)


def test_soap_normalises_nothing_to_nothing() -> None:
    start = PROBLEMS["P4"][0]
    own = Run("soap", start, normalize_grads=True, weight_decay=0.0)
    for _ in range(3):
        np.testing.assert_array_equal(own.step([np.zeros((2, 3))]), start)
