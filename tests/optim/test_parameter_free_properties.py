"""What the papers of the parameter-free, averaged and accelerated rules say that they do."""

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_runs import Run, assert_paths, feed, noise, parameters, path_of

from reference import REFERENCES, run
from reference.loop import Arrays
from reference.problems import VECTOR, p1, p3
from thalweg import optim
from thalweg.core.errors import UsageError

SCALE = 1024.0
few = settings(deadline=None, max_examples=25)
sizes = st.floats(1e-3, 1e3)


def moves(path: list[Arrays], start: np.ndarray) -> np.ndarray:
    """Return the steps of a path of one tensor."""
    return np.diff([start, *(points[0] for points in path)], axis=0)


def descent(
    rule: str, gradient: Callable[[np.ndarray], np.ndarray], start: np.ndarray, steps: int, **hyper
) -> tuple[Run, list[np.ndarray]]:
    """Return a run on one tensor whose gradient depends on the point, and its path."""
    own = Run(rule, [start], **hyper)
    return own, [own.step(lambda _, points: [gradient(points[0])])[0] for _ in range(steps)]


def torch_path(optimizer: type, script: list[Arrays], start: Arrays, **hyper: Any) -> list[Arrays]:
    params = [torch.nn.Parameter(torch.tensor(x)) for x in start]
    own, path = optimizer(params, **hyper), []
    for gradients in script:
        for p, g in zip(params, gradients, strict=True):
            p.grad = torch.tensor(g)
        own.step()
        path.append([p.detach().numpy().copy() for p in params])
    return path


def distances(own: Run, gradient: Callable[..., Arrays], steps: int) -> list[float]:
    """Return the estimate d after each step."""
    found = []
    for _ in range(steps):
        own.step(gradient)
        found.append(own.optimizer.param_groups[0]["d"])
    return found


# MADGRAD


@pytest.mark.parametrize("rule", ["madgrad", "mirror-madgrad"])
def test_first_step_goes_with_the_cube_root_of_the_gradient(rule: str) -> None:
    g = np.array([1.0, -2.0, 0.5])
    first = [
        Run(rule, [VECTOR], lr=0.1, eps=1e-30).step([factor * g])[0] - VECTOR for factor in (1, 8)
    ]
    np.testing.assert_allclose(first[1], 2 * first[0], rtol=1e-12)


def test_madgrad_without_momentum_equals_storing_the_start() -> None:
    setting = noise((7,), (3, 4))
    own = Run("madgrad", setting.start(), lr=0.1, momentum=0.0, weight_decay=0.1)
    origin, total, squares = setting.start(), [0.0, 0.0], [0.0, 0.0]
    for t, gradients in enumerate(setting.gradients(), start=1):
        before = own.points
        for i, g in enumerate(gradients):
            g = g + 0.1 * before[i]
            total[i] += (0.1 + 1e-6) * math.sqrt(t) * g
            squares[i] += (0.1 + 1e-6) * math.sqrt(t) * g**2
        expected = [
            x - s / (np.cbrt(n) + 1e-6) for x, s, n in zip(origin, total, squares, strict=True)
        ]
        assert_paths([own.step(gradients)], [expected], 1e-12)
    assert len(own.state()) == 2


# Gradient descent


@few
@given(st.lists(st.floats(0.05, 20.0), min_size=1, max_size=6), st.integers(0, 99))
def test_gd_shrinks_the_gap_by_one_minus_mu_over_l(curvatures: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, start = np.array(curvatures), rng.standard_normal(len(curvatures))
    basis = np.linalg.qr(rng.standard_normal((len(a), len(a))))[0]
    hessian = basis * a @ basis.T
    _, path = descent("gd", lambda x: hessian @ x, start, 30, smoothness=a.max())
    gaps = [0.5 * x @ hessian @ x for x in [start, *path]]
    for before, after in itertools.pairwise(gaps):
        assert after <= (1 - a.min() / a.max()) * before + 1e-15


def test_gd_is_torchs_sgd() -> None:
    setting = noise((7,), (3, 4), ())
    one = path_of(
        "gd", setting.gradients(), setting.start(), lr=0.5, smoothness=4.0, weight_decay=0.1
    )
    script, start = setting.gradients(), setting.start()
    two = torch_path(torch.optim.SGD, script, start, lr=0.125, weight_decay=0.1)
    assert_paths(one, two, 1e-14)


# Schedule-Free


@pytest.mark.parametrize("rule", ["schedule-free-sgd", "schedule-free-adamw"])
def test_with_a_constant_rate_x_is_the_mean_of_all_z(rule: str) -> None:
    setting = noise((7,), (3, 4))
    own, z = Run(rule, setting.start(), lr=0.05), []
    for gradients in setting.gradients():
        own.step(gradients)
        z.append([own.optimizer.state[p]["z"].numpy().copy() for p in own.params])
        mean = [np.mean(one, axis=0) for one in zip(*z, strict=True)]
        assert_paths([own.evaluated], [mean], 1e-12)


def test_schedule_free_sgd_tends_to_polyak_averaging_and_to_primal_averaging() -> None:
    setting = noise((7,))
    script, start = setting.gradients(), setting.start()
    polyak = Run("schedule-free-sgd", start, lr=0.05, momentum=1e-5)
    sgd, points = start[0], []
    for gradients in script:
        polyak.step(gradients)
        sgd = sgd - 0.05 * gradients[0]
        points.append(sgd)
        np.testing.assert_allclose(polyak.points[0], sgd, atol=1e-3)
        np.testing.assert_allclose(polyak.evaluated[0], np.mean(points, axis=0), atol=1e-3)
    primal = Run("schedule-free-sgd", start, lr=0.05, momentum=1 - 1e-9)
    for gradients in script:
        primal.step(gradients)
        np.testing.assert_allclose(primal.points[0], primal.evaluated[0], atol=1e-7)


# D-Adaptation


DADAPT = ["dadapt-sgd", "dadapt-adam", "dadapt-lion", "dadapt-adagrad"]


@pytest.mark.parametrize("rule", DADAPT)
def test_d_never_shrinks(rule: str) -> None:
    d = distances(Run(rule, [VECTOR], d0=1e-3), p1, 60)
    assert (np.diff([1e-3, *d]) >= 0).all()
    assert d[-1] > 2e-3


@pytest.mark.parametrize("rule", DADAPT[:3])
def test_path_does_not_see_the_scale_of_the_loss(rule: str) -> None:
    setting = noise((7,), (3, 4), drift=1.0, steps=30)
    hyper = {"d0": 1e-2, **({"eps": 1e-30} if rule == "dadapt-adam" else {})}
    script = setting.gradients()
    scaled = [[SCALE * g for g in gradients] for gradients in script]
    paths = [path_of(rule, one, setting.start(), **hyper) for one in (script, scaled)]
    assert_paths(*paths, 1e-12)


@pytest.mark.parametrize("rule", DADAPT)
def test_growth_of_d_is_bounded(rule: str) -> None:
    d = [1e-3, *distances(Run(rule, [VECTOR], d0=1e-3, growth_rate=1.05), p1, 40)]
    growth = np.array(d[1:]) / np.array(d[:-1])
    assert growth.max() <= 1.05 * (1 + 1e-12)
    assert growth.max() > 1.04


@pytest.mark.parametrize(
    ("rule", "hyper"),
    [
        ("dadapt-sgd", {}),
        ("dadapt-adam", {"weight_decay": 0.5, "decouple": True}),
        ("dadapt-lion", {"weight_decay": 0.5}),
        ("dadapt-adagrad", {}),
    ],
)
def test_nothing_happens_before_the_first_gradient(rule: str, hyper: dict[str, Any]) -> None:
    script = noise((3,), steps=12, drift=1.0).gradients()
    waited = Run(rule, [VECTOR], d0=0.1, **hyper)
    for _ in range(3):
        np.testing.assert_array_equal(waited.step([np.zeros(3)])[0], VECTOR)
    path = [waited.step(gradients) for gradients in script]
    assert_paths(path, path_of(rule, script, [VECTOR], d0=0.1, **hyper), 1e-15)


def test_dadapt_sgd_stays_below_the_distance_of_a_convex_problem() -> None:
    # |w|_1 / 2 around a solution at a known distance.
    rng = np.random.default_rng(0)
    for _ in range(10):
        start = rng.standard_normal(5)
        own = Run("dadapt-sgd", [start], d0=1e-3)
        d = distances(own, lambda t, points: [0.5 * np.sign(points[0])], 300)
        assert 1e-2 < d[-1] <= np.linalg.norm(start)


RESTING = [
    ("dadapt-sgd", {"momentum": 0.6, "growth_rate": 1.02}),
    ("dadapt-adam", {"use_bias_correction": True}),
    ("dadapt-adam", {"weight_decay": 0.1, "decouple": True}),
    ("dadapt-lion", {"weight_decay": 0.1}),
    ("dadapt-adagrad", {"momentum": 0.6, "growth_rate": 1.2}),
]


@pytest.mark.parametrize("execution", ["loop", "foreach", "compiled"])
@pytest.mark.parametrize(("rule", "hyper"), RESTING)
def test_dadapt_does_not_see_a_step_without_a_learning_rate(
    rule: str, hyper: dict[str, Any], execution: str
) -> None:
    setting = noise((5,), (3, 2), steps=20, drift=3.0)
    script = setting.gradients()
    hyper = {"d0": 0.1, "execution": execution, **hyper}
    own = Run(rule, setting.start(), lr=lambda t: 0.0 if t in (1, 6) else 0.8, **hyper)
    path = [own.step(gradients) for gradients in (script[3], *script[:4], script[7], *script[4:])]
    assert_paths([path[0], path[5]], [setting.start(), path[4]], 0)
    expected = Run(rule, setting.start(), lr=0.8, **hyper)
    assert_paths([*path[1:5], *path[6:]], [expected.step(one) for one in script], 0)
    assert own.optimizer.param_groups[0]["d"] == expected.optimizer.param_groups[0]["d"] > 0.1
    for i in (0, 1):
        for a, b in zip(own.state(i), expected.state(i), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("rule", "hyper"), RESTING)
def test_dadapt_leaves_a_frozen_group_out(rule: str, hyper: dict[str, Any]) -> None:
    setting = noise((5,), (3, 2), steps=20, drift=3.0)
    script, (start, frozen) = setting.gradients(), setting.start()
    alone = Run(rule, [start], d0=0.1, **hyper)
    params = parameters([start, frozen])
    resting: dict[str, Any] = {"params": params[1:], "lr": 0.0}
    if rule == "dadapt-adam":
        resting["eps"] = 0.0
    hyper = {"d0": 0.1, "execution": "loop", **hyper}
    optimizer = optim.create(rule, [{"params": params[:1]}, resting], **hyper)
    for gradients in script:
        feed(params, gradients)
        optimizer.step()
        found = [p.detach().numpy() for p in params]
        assert_paths([found], [[*alone.step(gradients[:1]), frozen]], 0)
        distances = [group["d"] for group in optimizer.param_groups]
        assert distances == [alone.optimizer.param_groups[0]["d"]] * 2
    assert distances[0] > 0.1


@pytest.mark.parametrize(("rule", "hyper"), RESTING)
def test_dadapt_rests_where_the_learning_rate_falls_to_zero(
    rule: str, hyper: dict[str, Any]
) -> None:
    setting = noise((5,), (3, 2), steps=12, drift=3.0)
    params = parameters(setting.start())
    groups: list[dict[str, Any]] = [{"params": [p]} for p in params]
    optimizer = optim.create(rule, groups, d0=0.1, **hyper)
    for t, gradients in enumerate(setting.gradients(), start=1):
        if t == 6:
            optimizer.param_groups[1]["lr"] = 0.0
            kept = copy.deepcopy([params[1], optimizer.state[params[1]]])
        before = [p.detach().clone() for p in params]
        feed(params, gradients)
        optimizer.step()
        assert not torch.equal(before[0], params[0])
        if t >= 6:
            assert torch.equal(before[1], params[1])
    after = optimizer.state[params[1]]
    names = [name for name, value in kept[1].items() if isinstance(value, torch.Tensor)]
    assert len(names) >= 2
    for name in set(names) - {"step"}:
        assert torch.equal(after[name], kept[1][name]), name


def test_dadapt_adagrad_bounds_the_distance_by_what_moves() -> None:
    setting = noise((5,), (3, 2), steps=12, drift=3.0)
    params = parameters(setting.start())
    groups: list[dict[str, Any]] = [{"params": [p]} for p in params]
    optimizer = optim.create("dadapt-adagrad", groups, d0=0.1, execution="loop")
    steps, grown = 0.0, 0
    for t, gradients in enumerate(setting.gradients(), start=1):
        d = optimizer.param_groups[0]["d"]
        if t == 6:
            optimizer.param_groups[1]["lr"] = 0.0
        feed(params, gradients)
        optimizer.step()
        moved, length = 0.0, 0.0
        for p in params[: 2 if t < 6 else 1]:
            state = optimizer.state[p]
            root = state["sum"].sqrt() + 1e-6
            steps += float((d**2 * p.grad**2 / root).sum())
            moved += float((state["s"] ** 2 / root).sum())
            length += float(state["s"].abs().sum())
        bound = (moved - steps) / length
        assert optimizer.param_groups[0]["d"] == pytest.approx(max(d, bound), rel=1e-12)
        grown += t >= 6 and bound > d
    assert grown >= 3


def test_dadapt_sgd_survives_a_sum_of_exactly_zero() -> None:
    g = np.array([1.0, -2.0, 0.5])
    path = path_of("dadapt-sgd", [[g], [-g], [g]], [VECTOR], d0=0.5)
    np.testing.assert_allclose(path[1][0], VECTOR, rtol=0, atol=1e-15)
    np.testing.assert_allclose(path[2][0], path[0][0], rtol=0, atol=1e-15)


def test_dadapt_carries_a_nan_of_any_tensor_into_d() -> None:
    for rule in DADAPT:
        own = Run(rule, [VECTOR, VECTOR])
        own.step([np.array([math.nan, 1.0, 1.0]), np.ones(3)])
        own.step([np.ones(3), np.ones(3)])
        assert math.isnan(own.optimizer.param_groups[0]["d"]), rule


# DoG


@pytest.mark.parametrize("rule", ["dog", "ldog"])
def test_distance_over_gradients_does_not_see_the_scale_of_the_loss(rule: str) -> None:
    setting = noise((7,), (3, 4))
    script = setting.gradients()
    scaled = [[SCALE * g for g in gradients] for gradients in script]
    hyper = {"eps": 0.0, "reps_rel": 0.1}
    paths = [path_of(rule, one, setting.start(), **hyper) for one in (script, scaled)]
    assert_paths(*paths, 1e-14)


@pytest.mark.parametrize("rule", ["dog", "ldog"])
def test_first_step_is_as_long_as_the_first_distance(rule: str) -> None:
    g = np.array([3.0, -0.1, 0.4])
    points = Run(rule, [VECTOR], eps=0.0, reps_rel=0.01).step([g])[0]
    expected = 0.01 * (1 + np.linalg.norm(VECTOR))
    assert np.linalg.norm(points - VECTOR) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rule", ["dog", "ldog"])
def test_zero_gradients_leave_everything_in_place(rule: str) -> None:
    own = Run(rule, [VECTOR], eps=0.0, reps_rel=0.1)
    np.testing.assert_array_equal(own.step([np.zeros(3)])[0], VECTOR)
    assert np.isfinite(own.step(p3)[0]).all()


def test_ldog_is_dog_on_each_tensor_alone() -> None:
    setting = noise((7,), (3, 4), ())
    script, start = setting.gradients(), setting.start()
    together = path_of("ldog", script, start, reps_rel=0.1, weight_decay=0.1)
    alone = [
        path_of("dog", [[g[i]] for g in script], [x], reps_rel=0.1, weight_decay=0.1)
        for i, x in enumerate(start)
    ]
    assert_paths(together, [[p[0] for p in points] for points in zip(*alone, strict=True)], 1e-13)


@pytest.mark.parametrize("execution", ["loop", "foreach", "compiled"])
def test_dog_takes_each_group_as_a_run_of_its_own(execution: str) -> None:
    setting = noise((7,), (3, 4), ())
    script, start = setting.gradients(), setting.start()
    hyper: dict[str, Any] = {"reps_rel": 0.1, "weight_decay": 0.1, "execution": execution}
    params = parameters(start)
    groups: list[dict[str, Any]] = [{"params": params[:2]}, {"params": params[2:], "lr": 0.5}]
    optimizer = optim.create("dog", groups, **hyper)
    one, two = Run("dog", start[:2], **hyper), Run("dog", start[2:], lr=0.5, **hyper)
    for gradients in script:
        feed(params, gradients)
        optimizer.step()
        expected = one.step(gradients[:2]) + two.step(gradients[2:])
        assert_paths([[p.detach().numpy() for p in params]], [expected], 0)
    for group, alone in zip(optimizer.param_groups, (one, two), strict=True):
        assert group["rbar"] == alone.optimizer.param_groups[0]["rbar"]
        assert group["k"] == 20


def test_dog_begins_with_the_first_gradients_of_a_group_that_joins() -> None:
    setting = noise((7,), (3, 4))
    params = parameters(setting.start())
    optimizer = optim.create("dog", params[:1], reps_rel=0.1, execution="loop")
    alone = Run("dog", setting.start()[1:], reps_rel=0.1)
    for t, gradients in enumerate(setting.gradients()):
        if t == 5:
            optimizer.add_param_group({"params": params[1:]})
        feed(params, gradients)
        optimizer.step()
        expected = alone.step(gradients[1:]) if t >= 5 else setting.start()[1:]
        assert_paths([[params[1].detach().numpy()]], [expected], 0)


@pytest.mark.parametrize("rule", ["dog", "ldog"])
def test_a_given_first_step_is_taken_as_it_is(rule: str) -> None:
    g = np.array([3.0, -0.1, 0.4])
    own = Run(rule, [VECTOR], lr=0.5, init_eta=1e-2, eps=0.0)
    (first,) = own.step([g])
    np.testing.assert_allclose(first, VECTOR - 1e-2 * g, rtol=0, atol=1e-15)
    far = 1e-2 * np.linalg.norm(g)
    (second,) = own.step([2 * g])
    expected = first - 0.5 * far / np.linalg.norm([*g, *(2 * g)]) * 2 * g
    np.testing.assert_allclose(second, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("rule", ["dog", "ldog"])
def test_a_given_first_step_waits_for_a_learning_rate_and_a_gradient(rule: str) -> None:
    g, hyper = np.array([3.0, -0.1, 0.4]), {"init_eta": 1e-2, "eps": 0.0}
    own = Run(rule, [VECTOR], lr=lambda t: 0.0 if t == 1 else 0.5, **hyper)
    np.testing.assert_array_equal(own.step([2 * g])[0], VECTOR)
    np.testing.assert_array_equal(own.step([0 * g])[0], VECTOR)
    np.testing.assert_allclose(own.step([g])[0], VECTOR - 1e-2 * g, rtol=0, atol=1e-15)
    assert not np.allclose(own.step([g])[0], VECTOR - 2e-2 * g, rtol=0, atol=1e-4)


def test_ldog_counts_in_single_precision_at_least() -> None:
    own = Run("ldog", [VECTOR], dtype=torch.bfloat16, reps_rel=0.1)
    own.step([np.full(3, 100.0)])
    for _ in range(50):
        own.step([np.full(3, 1.0)])
    state = own.optimizer.state[own.params[0]]
    assert float(state["grad_sum_sq"]) == pytest.approx(3e4 + 150, rel=1e-6)


def test_dog_counts_its_steps() -> None:
    own = Run("dog", [VECTOR])
    for steps in (1, 2, 3):
        own.step(p1)
        assert own.optimizer.param_groups[0]["k"] == steps


def test_dog_solves_a_quadratic_whatever_its_scale() -> None:
    for scale in (1e-3, 1.0, 1e3):
        _, path = descent("dog", lambda x, c=scale: c * x, VECTOR, 400, eps=0.0, reps_rel=1e-3)
        assert np.linalg.norm(path[-1]) < 0.02


# NAG-GS


def test_nag_gs_published_numbers() -> None:
    # The authors' README: f(x) = x.x, 200 steps, in float32.
    for form, expected in (("nag-gs", -6.88893e-05), ("nag4", 0.000290816)):
        _, path = descent("nag-gs", lambda x: 2 * x, np.ones(3), 200, form=form)
        np.testing.assert_allclose(path[-1], expected, rtol=0, atol=6e-10)


@pytest.mark.parametrize("form", ["nag-gs", "nag4"])
@pytest.mark.parametrize(("mu", "largest"), [(1.0, 50.0), (0.1, 3.0), (0.5, 400.0)])
def test_nag_gs_is_stable_up_to_the_bound_and_no_further(
    form: str, mu: float, largest: float
) -> None:
    bound = 2 * (mu + math.sqrt(mu * largest)) / (largest - mu)
    hyper: dict[str, Any] = {"mu": mu, "gamma": mu, "form": form}
    curvatures = np.array([mu, largest])
    for factor in (0.96, 1.04):
        _, path = descent(
            "nag-gs", lambda x: curvatures * x, np.ones(2), 500, lr=factor * bound, **hyper
        )
        assert np.abs(path[-1][1]) < 1e-2 if factor < 1 else np.abs(path[-1][1]) > 1e2


def test_nag_gs_begins_with_the_second_gradient() -> None:
    setting = noise((7,))
    script = setting.gradients()
    hyper = {"lr": 0.3, "mu": 0.7, "gamma": 0.7}
    own = Run("nag-gs", setting.start(), **hyper)
    np.testing.assert_array_equal(own.step(script[0])[0], setting.start()[0])
    path = [own.step(gradients) for gradients in script[1:]]
    constant = path_of("nag-gs", script[1:], setting.start(), form="nag4", **hyper)
    assert_paths(path, constant, 1e-14)


# Induced metric


@few
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=5), sizes, st.floats(0.01, 10.0))
def test_induced_metric_steps_by_the_dense_inverse(
    gradient: list[float], xi: float, loss: float
) -> None:
    g = np.array(gradient)
    metric = np.eye(len(g)) + xi * np.outer(g, g)
    hyper = {"lr": 0.1, "momentum": 0.0, "beta": 0.0, "xi": xi}
    points = Run("induced-metric", [np.zeros(len(g))], **hyper).step([g])[0]
    np.testing.assert_allclose(points, -0.1 * np.linalg.solve(metric, g), rtol=1e-7, atol=1e-9)
    own = Run("induced-metric", [np.zeros(len(g))], form="log", **hyper)
    own.params[0].grad = torch.tensor(g)
    own.optimizer.step(lambda: loss)
    slope = g / loss  # of the logarithm
    metric = np.eye(len(g)) + xi * np.outer(slope, slope)
    expected = -0.1 * np.linalg.solve(metric, slope)
    np.testing.assert_allclose(own.points[0], expected, rtol=1e-7, atol=1e-9)


@few
@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=5), sizes)
def test_induced_metric_clips_smoothly(gradient: list[float], xi: float) -> None:
    g = np.array(gradient)
    own = Run("induced-metric", [0 * g], lr=0.1, momentum=0.0, beta=0.0, xi=xi)
    assert np.linalg.norm(own.step([g])[0]) <= 0.1 / (2 * math.sqrt(xi)) * (1 + 1e-9)


def test_induced_metric_step_is_longest_where_the_slope_is_one_over_root_xi() -> None:
    own = Run("induced-metric", [np.zeros(2)], lr=0.1, momentum=0.0, beta=0.0, xi=0.25)
    length = np.linalg.norm(own.step([np.array([1.2, 1.6])])[0])
    assert length == pytest.approx(0.1 / (2 * 0.5), rel=1e-12)


def test_induced_metric_without_xi_is_descent_along_a_corrected_mean() -> None:
    setting = noise((7,))
    found = path_of("induced-metric", setting.gradients(), setting.start(), xi=0.0, lr=0.1)
    theta, m, expected = setting.start()[0], np.zeros(7), []
    for t, (g,) in enumerate(setting.gradients(), start=1):
        m = 0.9 * m + 0.1 * g
        theta = theta - 0.1 * m / (1 - 0.9**t)
        expected.append([theta])
    assert_paths(found, expected, 1e-13)


@pytest.mark.parametrize("execution", ["loop", "foreach", "compiled"])
def test_induced_metric_of_the_logarithm_equals_its_reference_and_golden_numbers(
    execution: str,
) -> None:
    curvature = np.array([1.0, 4.0, 25.0])

    def loss(t: int, points: Arrays) -> float:
        return 0.5 * float(np.sum(curvature * points[0] ** 2))

    hyper = {"form": "log", "beta": 0.7, "weight_decay": 0.1}
    for one, golden in (({"form": "log"}, True), (hyper, False)):
        loop = run(
            lambda s, g, **k: REFERENCES["induced-metric"](s, g, loss, **k), [VECTOR], p1, 8, **one
        )
        own = Run("induced-metric", [VECTOR], execution=execution, **one)
        for t, step in enumerate(loop, start=1):
            own.params[0].grad = torch.tensor(p1(t, own.points)[0])
            own.optimizer.step(lambda own=own: loss(0, own.points))
            np.testing.assert_allclose(own.points[0], step.points[0], rtol=0, atol=1e-12)
            if golden and t == 5:
                expected = [0.9525151144, -1.631387903, 0.03723753396]
                # The authors' program rounds the loss to float32.
                np.testing.assert_allclose(own.points[0], expected, rtol=0, atol=1e-8)


def test_induced_metric_of_the_logarithm_asks_for_the_loss() -> None:
    own = Run("induced-metric", [VECTOR], form="log")
    with pytest.raises(UsageError, match="closure"):
        own.step(p1)


def test_induced_metric_rests_where_neither_loss_nor_slope_is_left() -> None:
    own = Run("induced-metric", [VECTOR], form="log", beta=0.0)
    own.params[0].grad = torch.ones(3, dtype=torch.float64)
    own.optimizer.step(lambda: 1.0)
    before = own.points[0]
    own.params[0].grad.zero_()
    own.optimizer.step(lambda: 1e-200)  # whose square is 0
    np.testing.assert_array_equal(own.points[0], before)


@pytest.mark.parametrize("loss", [0.0, -1e-3, torch.tensor(-2.0), -math.inf])
def test_induced_metric_of_the_logarithm_refuses_a_loss_that_has_none(loss: Any) -> None:
    script = noise((3,), steps=3)
    one, other = (Run("induced-metric", script.start(), form="log") for _ in range(2))

    def step(own: Run, gradients: Arrays, value: Any) -> None:
        own.params[0].grad = torch.tensor(gradients[0])
        own.optimizer.step(lambda: value)

    first, second, third = script.gradients()
    step(one, first, 0.5)
    step(other, first, 0.5)
    for _ in range(2):
        with pytest.raises(UsageError, match="must not be 0 or negative"):
            step(one, second, loss)
    with pytest.raises(UsageError, match="must not be 0 or negative"):
        Run("induced-metric", [VECTOR], form="log").optimizer.step(lambda: loss)
    step(one, third, 0.3)
    step(other, third, 0.3)
    np.testing.assert_array_equal(one.points[0], other.points[0])
    step(one, third, math.nan)
    assert np.isnan(one.points[0]).all()
    for form in ("plain", "rms"):
        own = Run("induced-metric", script.start(), form=form)
        step(own, first, loss)
        assert not np.array_equal(own.points[0], script.start()[0])


def test_induced_metric_keeps_a_mean_square_in_the_rms_form_alone() -> None:
    for form, tensors in (("plain", 1), ("rms", 2)):
        own = Run("induced-metric", [VECTOR], form=form)
        own.step(p1)
        assert len(own.state()) == tensors


# Nesterov under interpolation


def _quadratic() -> tuple[np.ndarray, np.ndarray]:
    """Return the curvatures, of condition 270, and a start."""
    rng = np.random.default_rng(1)
    return np.geomspace(1.0, 270.0, 20), rng.standard_normal(20)


def _gap(form: str, steps: int, **hyper: Any) -> float:
    a, start = _quadratic()
    own, _ = descent("nesterov-interpolation", lambda x: a * x, start, steps, form=form, **hyper)
    return 0.5 * float(np.sum(a * own.evaluated[0] ** 2))


def test_nesterov_interpolation_without_noise_is_far_ahead_of_gradient_descent() -> None:
    a, start = _quadratic()
    _, path = descent("gd", lambda x: a * x, start, 300, smoothness=270.0)
    plain = 0.5 * float(np.sum(a * path[-1] ** 2))
    assert plain > 1e-3
    hyper = {"lr": 1 / 270, "mu": 1.0}
    assert _gap("strongly-convex", 300, **hyper) < 1e-10
    assert _gap("estimating", 300, gamma=1.0, **hyper) < 1e-10
    initial = 0.5 * float(np.sum(a * start**2))
    for steps in (10, 30, 100, 300):
        # FISTA's bound.
        assert _gap("convex", steps, **hyper) <= 2 * 270 * np.sum(start**2) / (steps + 1) ** 2
        # That of the estimating sequence.
        factor = (1 - math.sqrt(1 / 270)) ** steps
        bound = factor * (initial + 0.5 * np.sum(start**2))
        assert _gap("estimating", steps, gamma=1.0, **hyper) <= bound
        assert _gap("strongly-convex", steps, **hyper) <= bound


def test_nesterov_interpolation_by_an_estimating_sequence_waits_while_lr_is_0() -> None:
    setting = noise((3, 4), steps=9)
    hyper: dict[str, Any] = {"form": "estimating", "mu": 0.2, "gamma": 3.0}
    none, little = (
        path_of(
            "nesterov-interpolation",
            setting.gradients(),
            setting.start(),
            lr=lambda t, rest=rest: rest if t in (4, 5) else 0.1,
            **hyper,
        )
        for rest in (0.0, 1e-14)
    )
    assert_paths(none, little, 1e-5)


def test_nesterov_interpolation_keeps_its_rate_under_strong_growth() -> None:
    # Gradients of one coordinate in four, four times as long: E |g|^2 = 4 |grad f|^2.
    a, rng, steps = np.array([1.0, 5.0, 30.0, 200.0]), np.random.default_rng(3), 1500
    start, rho = np.ones((60, 4)), 4.0
    own = Run("nesterov-interpolation", [start], lr=1 / (rho * 200), rho=rho, mu=1.0)
    for _ in range(steps):
        mask = np.eye(4)[rng.integers(0, 4, 60)] * 4.0
        own.step(lambda _, points, mask=mask: [mask * a * points[0]])
    gap = float(np.mean(0.5 * np.sum(a * own.evaluated[0] ** 2, axis=1)))
    initial = 0.5 * float(np.sum(a)) + 0.5 * 4
    assert gap <= initial * (1 - math.sqrt(1 / 200) / rho) ** steps


@pytest.mark.parametrize(
    ("hyper", "momentum"),
    [
        ({"form": "mass", "alpha": 0.2, "kappa": 1.0}, 0.8 / 1.2),
        ({"form": "agnes", "correction": 0.05, "momentum": 0.7}, 0.7),
        ({"form": "strongly-convex", "mu": 0.2}, 0.9 / 1.1),
        ({"form": "estimating", "mu": 0.2, "gamma": 0.2}, 0.9 / 1.1),
    ],
)
def test_nesterov_interpolation_contains_torchs_nesterov(
    hyper: dict[str, Any], momentum: float
) -> None:
    setting = noise((7,), (3, 4))
    script, start = setting.gradients(), setting.start()
    found = path_of("nesterov-interpolation", script, start, lr=0.05, weight_decay=0.1, **hyper)
    expected = torch_path(
        torch.optim.SGD,
        script,
        start,
        lr=0.05,
        momentum=momentum,
        nesterov=True,
        weight_decay=0.1,
    )
    assert_paths(found, expected, 1e-13)


# Online to nonconvex


def test_online_to_nonconvex_moves_within_the_ball_and_starts_anew() -> None:
    setting = noise((7,), (3, 4))
    own = Run("online-to-nonconvex", setting.start(), lr=0.3, radius=0.5, period=4)
    x, longest = setting.start(), 0.0
    for t, gradients in enumerate(setting.gradients(), start=1):
        deltas = [own.optimizer.state[p].get("delta") for p in own.params]
        if deltas[0] is not None:
            x = [a + d.numpy() for a, d in zip(x, deltas, strict=True)]
        own.step(gradients)
        assert_paths([own.evaluated], [x], 1e-13)
        delta = [own.optimizer.state[p]["delta"].numpy() for p in own.params]
        norm = math.sqrt(sum(float(np.sum(d**2)) for d in delta))
        assert norm <= 0.5 + 1e-12
        assert (norm == 0) == (t % 4 == 0)
        longest = max(longest, norm)
    assert longest == pytest.approx(0.5, rel=1e-12)


def test_online_to_nonconvex_at_full_length_is_the_learners_own_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw = "thalweg.optim.online_to_nonconvex.derive_seed"
    monkeypatch.setattr(draw, lambda *stream: 2**63)
    script = [[np.array([1.0, -2.0, 0.5])]] * 12
    path = path_of("online-to-nonconvex", script, [VECTOR], lr=0.1, radius=0.4, period=100)
    delta, theta, expected = np.zeros(3), VECTOR, []
    for (g,) in script:
        delta = delta - 0.1 * g
        delta *= min(1.0, 0.4 / np.linalg.norm(delta))
        theta = theta + delta
        expected.append([theta])
    assert_paths(path, expected, 1e-13)


def test_online_to_nonconvex_predicts_the_change_of_the_loss_on_average() -> None:
    # The mean over s of <grad F(x + s Delta), Delta> is F(x + Delta) - F(x).
    def loss(x: float) -> float:
        return math.sin(3 * x) + 0.1 * x**2

    def slope(x: np.ndarray) -> np.ndarray:
        return 3 * np.cos(3 * x) + 0.2 * x

    products, change = [], 0.0
    for seed in range(400):
        own = Run("online-to-nonconvex", [np.array(0.7)], lr=1.0, radius=0.5, seed=seed)
        (w,) = own.step([np.array(-2.0)])
        delta = float(own.optimizer.state[own.params[0]]["delta"])
        products.append(float(slope(w)) * delta)
        change = loss(0.7 + delta) - loss(0.7)
    error = np.std(products) / math.sqrt(len(products))
    assert abs(np.mean(products) - change) < 4 * error
    assert error < 0.05


def test_online_to_nonconvex_finds_a_goldstein_stationary_point() -> None:
    # |x1| + |x2 - 1|: gradients have length sqrt(2) wherever both are defined.
    own = Run("online-to-nonconvex", [np.array([1.0, -1.0])], lr=0.01, radius=0.02, period=20)
    stationarity = []
    for _ in range(30):
        points, gradients = [], []
        for _ in range(20):
            points.append(own.points[0])
            gradients.append(np.sign(points[-1] - np.array([0.0, 1.0])))
            own.step([gradients[-1]])
        spread = max(np.linalg.norm(x - np.mean(points, axis=0)) for x in points)
        assert spread <= 0.02 * 20
        stationarity.append(np.linalg.norm(np.mean(gradients, axis=0)))
    assert stationarity[0] > 1.4
    assert min(stationarity) < 0.15
    np.testing.assert_allclose(own.evaluated[0], [0.0, 1.0], atol=0.05)


def test_online_to_nonconvex_gives_the_mean_of_a_period_s_points() -> None:
    setting = noise((7,), (3, 4), steps=15)
    own = Run("online-to-nonconvex", setting.start(), radius=0.5, period=5, output="mean")
    points: list[Arrays] = []
    for t, gradients in enumerate(setting.gradients(), start=1):
        points.append(own.points)
        own.step(gradients)
        if t % 5 == 0:
            means = [np.mean(some, axis=0) for some in zip(*points[-5:], strict=True)]
            assert_paths([own.evaluated], [means], 1e-14)


@pytest.mark.parametrize("lengths", ["uniform", "exponential"])
def test_online_to_nonconvex_exponentiated_predicts_the_change_of_the_loss_on_average(
    lengths: str,
) -> None:
    # The mean over s of weight <grad F(p + s Delta), Delta> is that of F(p + s Delta) - F(p).
    hyper = {"lr": 1.0, "form": "exponentiated", "mu": 0.0, "beta": 1.0, "lengths": lengths}
    products, changes = [], []
    for seed in range(300):
        own = Run("online-to-nonconvex", [np.array(0.7)], seed=seed, **hyper)
        (w,) = own.step([np.array(-0.4)])
        before = float(own.optimizer.state[own.params[0]]["delta"])
        own.step([3 * np.cos(3 * w)])
        taken = before - float(own.optimizer.state[own.params[0]]["delta"])
        products.append(taken * before)
        changes.append(float(np.sin(3 * w) - math.sin(2.1)))
    error = np.std(np.subtract(products, changes)) / math.sqrt(len(products))
    assert abs(np.mean(products) - np.mean(changes)) < 4 * error
    assert abs(np.mean(changes)) > 8 * error


@pytest.mark.parametrize(
    ("rule", "hyper"),
    [
        ("online-to-nonconvex", {"radius": 0.5}),
        ("online-to-nonconvex", {"radius": 0.5, "output": "mean"}),
        ("online-to-nonconvex", {"form": "exponentiated"}),
        ("nesterov-interpolation", {"form": "mass"}),
    ],
)
def test_training_weights_come_back_from_a_file_of_evaluation_weights(
    rule: str, hyper: dict[str, Any]
) -> None:
    setting = noise((7,), (3, 4), steps=5)
    own = Run(rule, setting.start(), lr=0.3, **hyper)
    for gradients in setting.gradients():
        own.step(gradients)
    trained = own.points
    own.optimizer.eval()
    other = Run(rule, own.points, lr=0.3, **hyper)
    other.optimizer.load_state_dict(own.optimizer.state_dict())
    other.optimizer.train()
    assert_paths([other.points], [trained], 1e-13)


def test_online_to_nonconvex_exponentiated_is_momentum_with_random_lengths() -> None:
    setting = noise((7,), steps=400)
    hyper = {"lr": 0.1, "form": "exponentiated", "beta": 0.9, "mu": 0.0}
    script, start = setting.gradients(), setting.start()
    path = path_of("online-to-nonconvex", script, start, **hyper)
    lengths, m = [], np.zeros(7)
    for (g,), move in zip(script, moves(path, start[0]), strict=True):
        m = 0.9 * (m - 0.1 * g)
        lengths.append(float(move @ m / (m @ m)))
        np.testing.assert_allclose(move, lengths[-1] * m, rtol=0, atol=1e-11)
    assert min(lengths) >= 0
    assert np.mean(lengths) == pytest.approx(1.0, abs=0.15)
    assert np.mean(np.array(lengths) > 1) == pytest.approx(math.exp(-1), abs=0.08)


# AdaGrad-Norm


@pytest.mark.parametrize("scope", ["global", "tensor", "row"])
def test_adagrad_norm_does_not_see_the_scale_of_the_loss(scope: str) -> None:
    setting = noise((7,), (3, 4), ())
    script = setting.gradients()
    scaled = [[SCALE * g for g in gradients] for gradients in script]
    start, own = setting.start(), 0.3
    one = path_of("adagrad-norm", script, start, scope=scope, initial_accumulator_value=own)
    two = path_of(
        "adagrad-norm", scaled, start, scope=scope, initial_accumulator_value=own * SCALE**2
    )
    assert_paths(one, two, 1e-13)


@few
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=8), sizes)
def test_adagrad_norm_never_steps_farther_than_lr(gradients: list[float], lr: float) -> None:
    script = [[np.array([g, 2 * g])] for g in gradients]
    path = path_of("adagrad-norm", script, [np.zeros(2)], lr=lr)
    lengths = np.linalg.norm(moves(path, np.zeros(2)), axis=1)
    assert (lengths <= lr * (1 + 1e-12)).all()
    b = np.sqrt(0.01 + np.cumsum([float(np.sum(g**2)) for (g,) in script]))
    expected = [lr * np.linalg.norm(g) / one for (g,), one in zip(script, b, strict=True)]
    np.testing.assert_allclose(lengths, expected, rtol=1e-9, atol=1e-12)


def test_adagrad_norm_needs_no_knowledge_of_the_smoothness() -> None:
    for smoothness in (0.3, 1.0, 30.0, 1e3):
        a = smoothness * np.array([1.0, 0.5, 0.2])
        _, path = descent("adagrad-norm", lambda x, a=a: a * x, VECTOR, 500, lr=2.0)
        assert np.linalg.norm(path[-1]) < 1e-3


def test_adagrad_norm_scopes_are_runs_of_their_own() -> None:
    setting = noise((7,), (3, 4))
    script, start = setting.gradients(), setting.start()
    tensors = path_of("adagrad-norm", script, start, scope="tensor", weight_decay=0.1)
    rows = path_of("adagrad-norm", script, start, scope="row", weight_decay=0.1)
    for i in (0, 1):
        alone = path_of("adagrad-norm", [[g[i]] for g in script], [start[i]], weight_decay=0.1)
        assert_paths([[points[i]] for points in tensors], alone, 1e-13)
    for r in range(3):
        alone = path_of(
            "adagrad-norm", [[g[1][r]] for g in script], [start[1][r]], weight_decay=0.1
        )
        assert_paths([[points[1][r]] for points in rows], alone, 1e-13)


@pytest.mark.parametrize("scope", ["tensor", "row"])
def test_adagrad_norm_counts_in_single_precision_at_least(scope: str) -> None:
    start = [np.ones((2, 3))]
    own = Run("adagrad-norm", start, dtype=torch.bfloat16, scope=scope)
    own.step([np.full((2, 3), 100.0)])
    for _ in range(50):
        own.step([np.ones((2, 3))])
    total = own.optimizer.state[own.params[0]]["sum"]
    if scope == "row":
        assert total.dtype == torch.float32
        assert total.shape == (2, 1)
    else:
        assert isinstance(total, float)
    each = 3 * 10050 * (1 if scope == "row" else 2) + 0.01
    np.testing.assert_allclose(total, each, rtol=1e-6)


def test_adagrad_norm_keeps_rows_sums_beside_the_parameter_and_one_number_for_a_vector() -> None:
    rule = optim.AdaGradNorm.rule(scope="row", initial_accumulator_value=0.5)
    sums = rule.init(torch.ones(3, 2, device="meta"))["sum"]
    assert (sums.shape, sums.device.type) == ((3, 1), "meta")
    assert rule.init(torch.ones(4)) == {"sum": 0.5}


def test_adagrad_norm_takes_the_rows_of_a_whole_where_it_is_sharded() -> None:
    # Not at the top: the import takes a second, which only this test needs.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    setting = noise((3, 4))
    script, start = setting.gradients(), setting.start()
    expected = path_of("adagrad-norm", script, start, scope="row", weight_decay=0.1)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        p = distribute_tensor(torch.tensor(start[0]), mesh, [Shard(0)]).requires_grad_()
        optimizer = optim.AdaGradNorm([p], scope="row", weight_decay=0.1)
        for (g,), (points,) in zip(script, expected, strict=True):
            p.grad = distribute_tensor(torch.tensor(g), mesh, [Shard(0)])
            optimizer.step()
            np.testing.assert_allclose(p.detach().full_tensor(), points, rtol=0, atol=1e-14)
    finally:
        dist.destroy_process_group()
