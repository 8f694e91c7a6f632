"""The golden numbers of the authors' programs, and what each paper says of its rule."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from rule_runs import Run, feed, parameters

from reference import REFERENCES, run
from reference.golden import GOLDEN, NEWTON_SCHULZ, Golden
from reference.loop import Arrays
from reference.problems import (
    PROBLEMS,
    VECTOR,
    counter_example,
    p1,
    p3,
    p4,
    projected,
    second_counter_example,
)
from reference.settings import Setting
from thalweg import optim
from thalweg.engine import newton_schulz

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])


def _path(rule: str, script: list[Arrays], start: Arrays, **hyper: Any) -> list[Arrays]:
    own = Run(rule, start, **hyper)
    return [own.step(gradients) for gradients in script]


def _noise(*shapes: tuple[int, ...], steps: int = 20, drift: float = 0.0) -> Setting:
    return Setting("", "", {}, shapes=shapes, steps=steps, drift=drift)


def _assert_paths(one: list[Arrays], other: list[Arrays], tolerance: float) -> None:
    for t, (left, right) in enumerate(zip(one, other, strict=True), start=1):
        for a, b in zip(left, right, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance, err_msg=f"step {t}")


@DTYPES
@pytest.mark.parametrize("golden", GOLDEN, ids=str)
def test_golden_numbers(golden: Golden, dtype: torch.dtype) -> None:
    start, gradient = PROBLEMS[golden.problem]
    own = Run(golden.rule, start, dtype=dtype, **golden.hyper)
    steps, tolerance = max(golden.points), golden.tolerance
    if dtype == torch.float32:
        # Prodigy's first moves of 1e-6 are lost in float32, and it grows what it has left.
        steps, tolerance = min(steps, 5), max(tolerance, 4e-6)
    for t in range(1, steps + 1):
        found = own.step(gradient)[0].ravel()
        if t in golden.points:
            np.testing.assert_allclose(
                found, golden.points[t], rtol=0, atol=tolerance, err_msg=f"step {t}"
            )
        if t in golden.extra.get("x", {}):
            np.testing.assert_allclose(
                own.evaluated[0], golden.extra["x"][t], rtol=0, atol=tolerance
            )
        if t in golden.extra.get("d", {}):
            d = own.optimizer.param_groups[0]["d"]
            assert abs(d - golden.extra["d"][t]) < tolerance


# Reddi et al.'s counter-examples, with projection onto [-1, 1]


def _projected_run(
    rule: str, example: tuple[Any, Any, dict[str, float]], steps: int
) -> list[float]:
    """Run the paper's form: the learning rate takes torch's bias corrections back."""
    gradient, lr, settings = example
    p = torch.nn.Parameter(torch.tensor(settings["start"], dtype=torch.float64))
    betas = beta1, beta2 = settings["beta1"], settings["beta2"]
    optimizer = optim.create(rule, [p], lr=1.0, betas=betas, eps=1e-30, execution="loop")
    p.grad = torch.zeros_like(p)
    path = []
    for t in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = lr(t) * (1 - beta1**t) / math.sqrt(1 - beta2**t)
        p.grad.fill_(gradient(t))
        optimizer.step()
        with torch.no_grad():
            path.append(float(p.clamp_(-1, 1)))
    return path


def test_adam_ends_at_the_worst_point_and_amsgrad_at_the_best() -> None:
    assert min(_projected_run("adam", counter_example(3.0), 3000)[-300:]) >= 0.990
    for c, first in ((3.0, 259), (10.0, 52)):
        path = _projected_run("amsgrad", counter_example(c), first)
        assert path[-1] <= -0.99
        assert min(path[:-1]) > -0.99


def test_second_counter_example() -> None:
    steps = 10**4
    example = second_counter_example()
    assert abs(_projected_run("amsgrad", example, steps)[-1] - -0.801) < 5.1e-4
    plain = projected(*example, amsgrad=False)
    expected = [next(plain) for _ in range(1000)]
    np.testing.assert_allclose(_projected_run("adam", example, 1000), expected, rtol=0, atol=1e-12)


# AMSGrad


def test_amsgrad_keeps_a_monotone_maximum() -> None:
    setting = _noise((4, 3))
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
    paths = [_path(rule, script, [VECTOR], lr=0.1) for rule in ("amsgrad", "adam")]
    _assert_paths(*paths, 1e-14)


# Adam


def test_adam_moves_by_lr_at_first_whatever_the_size_of_the_gradient() -> None:
    for size in (1e-3, 1.0, 1e3):
        g = size * np.array([1.0, -2.0, 0.0])
        points = Run("adam", [VECTOR], lr=0.1, eps=1e-30).step([g])[0]
        np.testing.assert_allclose(points - VECTOR, [-0.1, 0.1, 0.0], rtol=0, atol=1e-14)


def test_decoupled_decay_of_adamw_is_independent_of_the_gradients() -> None:
    zero = [np.zeros(3)]
    points = _path("adamw", [zero] * 10, [VECTOR], lr=0.1, weight_decay=0.5)[-1][0]
    np.testing.assert_allclose(points, VECTOR * 0.95**10, rtol=1e-14)


# Lion


def test_lion_moves_every_entry_by_exactly_lr() -> None:
    setting = _noise((7,), (3, 4))
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
    setting = _noise((7,))
    script = setting.gradients()
    scaled = [[1024 * g for g in gradients] for gradients in script]
    paths = [_path("lion", one, setting.start(), lr=0.01) for one in (script, scaled)]
    _assert_paths(*paths, 0.0)


def test_lion_with_equal_betas_is_sign_descent_with_momentum() -> None:
    setting = _noise((7,))
    theta, m, expected = setting.start()[0], np.zeros(7), []
    for (g,) in setting.gradients():
        m = 0.8 * m + 0.2 * g
        theta = theta - 0.01 * np.sign(m)
        expected.append([theta])
    found = _path("lion", setting.gradients(), setting.start(), lr=0.01, betas=(0.8, 0.8))
    _assert_paths(found, expected, 1e-14)


# AdaBelief


def test_adabelief_starts_with_lr_over_beta1() -> None:
    g = np.array([3.0, -0.01, 0.5])
    points = Run("adabelief", [VECTOR], lr=0.1, rectify=False, eps=1e-40).step([g])[0]
    np.testing.assert_allclose(points - VECTOR, -np.sign(g) * 0.1 / 0.9, rtol=1e-12)


def test_adabelief_strides_out_while_the_gradient_is_constant() -> None:
    script = [[np.array([1.0, -2.0, 0.5])]] * 60
    path = [VECTOR, *(p[0] for p in _path("adabelief", script, [VECTOR], rectify=False, lr=0.1))]
    lengths = np.abs(np.diff(path, axis=0))
    assert (np.diff(lengths, axis=0) > 0).all()
    assert (lengths[-1] > 3 * lengths[0]).all()


def test_adabelief_is_momentum_descent_until_the_variance_is_known() -> None:
    setting = _noise((7,), steps=7)
    script = setting.gradients()
    found = _path("adabelief", script, setting.start(), lr=0.1)
    theta, m, expected = setting.start()[0], np.zeros(7), []
    for t, (g,) in enumerate(script, start=1):
        m = 0.9 * m + 0.1 * g
        theta = theta - 0.1 * m / (1 - 0.9**t)
        expected.append([theta])
    _assert_paths(found[:5], expected[:5], 1e-14)
    assert np.abs(found[6][0] - expected[6][0]).max() > 1e-3


# AdEMAMix


def test_ademamix_without_the_slow_average_is_adamw() -> None:
    setting = _noise((7,), (3, 4), ())
    hyper = {"lr": 0.1, "eps": 1e-3, "weight_decay": 0.2}
    one = _path(
        "ademamix",
        setting.gradients(),
        setting.start(),
        betas=(0.9, 0.99, 0.999),
        alpha=0.0,
        beta3_warmup=5,
        **hyper,
    )
    two = _path("adamw", setting.gradients(), setting.start(), betas=(0.9, 0.99), **hyper)
    _assert_paths(one, two, 1e-15)


def test_ademamix_is_at_full_strength_from_the_end_of_the_warm_ups_on() -> None:
    # Constant gradients and b1 = b3: both averages are the same up to the bias correction.
    script = [[np.ones(2)]] * 12
    hyper = {"lr": 0.1, "betas": (0.5, 0.999, 0.5), "eps": 0.0, "alpha": 4.0, "alpha_warmup": 4}
    path = [np.zeros(2), *(p[0] for p in _path("ademamix", script, [np.zeros(2)], **hyper))]
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
    setting = _noise((4, 5), (6,), steps=25)
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


# Schedule-Free


def test_schedule_free_evaluates_at_the_running_mean_of_z() -> None:
    beta = 0.8
    setting = _noise((5,), (3, 2))
    own = Run("schedule-free-adamw", setting.start(), lr=0.1, betas=(beta, 0.99), weight_decay=0.1)
    total = [np.zeros(5), np.zeros((3, 2))]
    for t, gradients in enumerate(setting.gradients(), start=1):
        y = own.step(gradients)
        x = own.evaluated
        for i in range(2):
            total[i] += (y[i] - beta * x[i]) / (1 - beta)  # z
            np.testing.assert_allclose(x[i], total[i] / t, rtol=0, atol=1e-12)


def test_schedule_free_without_averaging_is_adam_without_momentum() -> None:
    setting = _noise((5,))
    script = setting.gradients()
    hyper: dict[str, Any] = {"lr": 0.1, "eps": 1e-3}
    one = _path("schedule-free-adamw", script, setting.start(), betas=(1e-9, 0.99), **hyper)
    two = _path("adam", script, setting.start(), betas=(0.0, 0.99), **hyper)
    _assert_paths(one, two, 1e-7)


def test_schedule_free_with_beta_one_walks_on_the_averages() -> None:
    setting = _noise((5,))
    own = Run("schedule-free-adamw", setting.start(), lr=0.1, betas=(1 - 1e-9, 0.99))
    for gradients in setting.gradients():
        _assert_paths([own.step(gradients)], [own.evaluated], 1e-7)


def test_schedule_free_switches_back_exactly() -> None:
    setting = _noise((5,))
    own, undisturbed = (Run("schedule-free-adamw", setting.start(), lr=0.1) for _ in range(2))
    for gradients in setting.gradients():
        own.optimizer.eval()
        own.optimizer.eval()
        own.optimizer.train()
        own.optimizer.train()
        _assert_paths([own.step(gradients)], [undisturbed.step(gradients)], 0.0)


def test_schedule_free_trains_on_after_loading_evaluation_weights() -> None:
    setting = _noise((5,))
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
    _assert_paths(one, two, 1e-12)
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


def test_prodigy_counts_from_the_first_gradient() -> None:
    hyper: dict[str, Any] = {"use_bias_correction": True, "d0": 1e-2}
    own, fresh = Run("prodigy", [VECTOR], **hyper), Run("prodigy", [VECTOR], **hyper)
    own.step([np.zeros(3)])
    for _ in range(5):
        np.testing.assert_array_equal(own.step(p1), fresh.step(p1))


def test_prodigy_has_one_distance_for_all_groups() -> None:
    setting = _noise((5,), (3, 2), steps=25, drift=1.5)
    script = setting.gradients()
    expected = _path("prodigy", script, setting.start(), d0=1e-3)[-1]
    params = parameters(setting.start())
    groups: list[dict[str, Any]] = [{"params": [p]} for p in params]
    optimizer = optim.Prodigy(groups, d0=1e-3, execution="loop")
    for gradients in script:
        feed(params, gradients)
        optimizer.step()
    for p, b in zip(params, expected, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), b, rtol=1e-12)
    assert optimizer.param_groups[0]["d"] == optimizer.param_groups[1]["d"]


# Newton-Schulz and Muon


def _on_singular_value(s: float) -> float:
    """Return what five steps make of s, in a matrix of norm 1 with one other singular value."""
    matrix = torch.diag(torch.tensor([s, math.sqrt(1 - s * s)], dtype=torch.float64))
    return float(newton_schulz(matrix, eps=0.0)[0, 0])


@pytest.mark.parametrize(("s", "expected"), NEWTON_SCHULZ.items())
def test_newton_schulz_on_singular_values(s: float, expected: float) -> None:
    assert abs(_on_singular_value(s) - expected) < 5.1e-7


def test_newton_schulz_ranges() -> None:
    middle = [_on_singular_value(s) for s in np.linspace(0.01, 1, 3000)]
    assert 0.6817 < min(middle) < 0.6820
    assert 1.1340 < max(middle) < 1.1345
    low = [_on_singular_value(s) for s in np.linspace(0.0025, 0.01, 1000)]
    assert 1.2020 < max(low) < 1.2025


def test_newton_schulz_of_one_number() -> None:
    x = torch.tensor([[-3.0]], dtype=torch.float64)
    assert abs(float(newton_schulz(x)) + 0.696436) < 1e-6
    assert float(newton_schulz(torch.zeros(1, 1))) == 0.0
    p = -3.0 / (3.0 + 0.5)
    for _ in range(2):
        p = 2.0 * p - 1.5 * p**3 + 0.5 * p**5
    own = float(newton_schulz(x, steps=2, coefficients=(2.0, -1.5, 0.5), eps=0.5))
    assert abs(own - p) < 1e-14


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_newton_schulz_keeps_singular_vectors(shape: tuple[int, int]) -> None:
    x = torch.tensor(np.random.default_rng(0).standard_normal(shape))
    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    s = s / torch.linalg.vector_norm(s)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    torch.testing.assert_close(newton_schulz(x, eps=0.0), u @ torch.diag(s) @ vt)


def test_muon_does_not_see_the_gradients_scale() -> None:
    setting = _noise((4, 3))
    script = setting.gradients()
    scaled = [[1000 * g for g in gradients] for gradients in script]
    paths = [_path("muon", one, setting.start(), eps=0.0) for one in (script, scaled)]
    _assert_paths(*paths, 1e-12)


def test_muon_with_a_heavy_ball_buffer_is_the_same() -> None:
    setting = _noise((4, 3))
    theta, b, expected = setting.start()[0], np.zeros((4, 3)), []
    for (g,) in setting.gradients():
        b = 0.95 * b + g
        o = newton_schulz(torch.tensor(g + 0.95 * b)).numpy()
        theta = theta - 0.02 * math.sqrt(4 / 3) * o
        expected.append([theta])
    _assert_paths(_path("muon", setting.gradients(), setting.start()), expected, 1e-6)


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
def test_muon_takes_convolutions_as_matrices(adjust: str) -> None:
    setting = _noise((6, 2, 1, 2))
    flat = [[g.reshape(6, 4) for g in gradients] for gradients in setting.gradients()]
    one = _path("muon", setting.gradients(), setting.start(), adjust_lr_fn=adjust)
    two = _path("muon", flat, [setting.start()[0].reshape(6, 4)], adjust_lr_fn=adjust)
    _assert_paths([[p.reshape(6, 4) for p in points] for points in one], two, 1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_muon_iterates_in_single_precision_on_cpus(dtype: torch.dtype) -> None:
    g = np.random.default_rng(5).standard_normal((4, 4))
    own = Run("muon", [np.zeros((4, 4))], dtype, lr=1.0, momentum=0.0, nesterov=False)
    own.step([g])
    expected = -newton_schulz(torch.tensor(g).to(dtype).float()).to(dtype)
    torch.testing.assert_close(own.params[0].detach(), expected, rtol=0, atol=0)


# SOAP


def test_soap_on_a_vector_is_adam_one_call_late() -> None:
    setting = _noise((6,))
    script = setting.gradients()
    hyper: dict[str, Any] = {"lr": 0.1, "betas": (0.95, 0.95), "eps": 1e-30, "weight_decay": 0.0}
    late = _path("soap", script, setting.start(), **hyper)
    np.testing.assert_array_equal(late[0][0], setting.start()[0])
    _assert_paths(late[1:], _path("adam", script[1:], setting.start(), **hyper), 1e-13)


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
    setting = _noise((4, 3))
    script = setting.gradients()
    hyper: dict[str, Any] = {"lr": 0.1, "betas": (0.95, 0.95), "eps": 1e-30, "weight_decay": 0.0}
    late = _path("soap", script, setting.start(), max_precond_dim=2, **hyper)
    _assert_paths(late[1:], _path("adam", script[1:], setting.start(), **hyper), 1e-13)


def test_soap_normalises_nothing_to_nothing() -> None:
    start = PROBLEMS["P4"][0]
    own = Run("soap", start, normalize_grads=True, weight_decay=0.0)
    for _ in range(3):
        np.testing.assert_array_equal(own.step([np.zeros((2, 3))]), start)


# Every rule


@pytest.mark.parametrize("rule", REFERENCES)
def test_state_lives_beside_its_parameter(rule: str) -> None:
    formula = type(Run(rule, [np.ones((3, 2))]).optimizer).rule()
    for shape in ((3, 2), (3,)):
        p = torch.nn.Parameter(torch.empty(shape, device="meta", dtype=torch.float64))
        for name, tensor in formula.init(p).items():
            assert tensor.device == p.device, name
            assert tensor.dtype == p.dtype, name
            assert not tensor.requires_grad, name


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3)])
@pytest.mark.parametrize("rule", REFERENCES)
def test_empty_tensors_are_no_trouble(rule: str, shape: tuple[int, ...]) -> None:
    own = Run(rule, [np.zeros(shape), VECTOR])
    for t in (1, 2, 3):
        own.step([np.zeros(shape), p3(t, [])[0]])
    assert np.isfinite(own.points[1]).all()
    assert (own.points[1] != VECTOR).any()


@pytest.mark.parametrize("rule", REFERENCES)
def test_nan_stays_nan(rule: str) -> None:
    gradient = {"muon": p4, "soap": p4, "adafactor": p4}.get(rule, p3)
    start, good = PROBLEMS["P4"][0] if gradient is p4 else [VECTOR], gradient
    own = Run(rule, start)
    for t in (1, 2):
        own.step(good(t, start))
    bad = good(3, start)
    bad[0][..., 0] = math.nan
    points = own.step(bad)[0]
    assert np.isnan(points[..., 0]).all()
    if rule in ("sgd", "adam", "adamw", "amsgrad", "lion", "adabelief", "ademamix"):
        assert np.isfinite(points[..., 1:]).all()
