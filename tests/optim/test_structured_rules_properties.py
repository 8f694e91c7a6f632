"""What the papers of masked and variance-reduced rules say that they do."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_runs import Run, assert_paths, noise, numbers_kept, path_of

from reference import run
from reference.loop import Arrays
from reference.mars import REFERENCES as MARS
from thalweg.core.errors import UsageError
from thalweg.engine import Numbers, State
from thalweg.engine.cautious import scale
from thalweg.engine.mars import MARSRule
from thalweg.modifier import Cautious, ClipNorm

# Cautious rules


def _agreeing(*shapes: tuple[int, ...], steps: int = 10) -> list[list[np.ndarray]]:
    """Return gradients that keep their signs."""
    script = noise(*shapes, steps=steps).gradients()
    signs = [np.where(g < 0, -1.0, 1.0) for g in script[0]]
    return [[s * (np.abs(g) + 0.1) for s, g in zip(signs, each, strict=True)] for each in script]


@pytest.mark.parametrize(
    ("rule", "plain"), [("cautious-adamw", "grams"), ("cautious-lion", "lion")]
)
def test_cautious_mean_is_the_plain_rule_while_signs_agree(rule: str, plain: str) -> None:
    shapes = ((5,), (3, 4), ())
    script, start = _agreeing(*shapes), noise(*shapes).start()
    hyper: dict[str, Any] = {"lr": 0.05, "weight_decay": 0.2, "betas": (0.9, 0.95)}
    cautious = path_of(rule, script, start, scaling="mean", **hyper)
    assert_paths(cautious, path_of(plain, script, start, **hyper), 1e-13)


@pytest.mark.parametrize("rule", ["cautious-adamw", "cautious-lion"])
def test_cautious_count_is_n_over_n_plus_one_of_it(rule: str) -> None:
    script, start = _agreeing((3,), steps=1), [np.zeros(3)]
    mean = path_of(rule, script, start, lr=0.1, scaling="mean")[0][0]
    count = path_of(rule, script, start, lr=0.1, scaling="count")[0][0]
    np.testing.assert_allclose(count, 0.75 * mean, rtol=1e-14)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), scaling=st.sampled_from(["mean", "count"]))
@pytest.mark.parametrize("rule", ["cautious-adamw", "cautious-lion"])
def test_cautious_entries_never_climb(rule: str, seed: int, scaling: str) -> None:
    random = np.random.default_rng(seed)
    own = Run(rule, [np.zeros(7)], lr=0.1, scaling=scaling)
    for _ in range(5):
        before, g = own.points[0], random.standard_normal(7)
        assert ((own.step([g])[0] - before) * g <= 0).all()


@pytest.mark.parametrize("scaling", ["mean", "count"])
@pytest.mark.parametrize("rule", ["cautious-adamw", "cautious-lion"])
def test_cautious_rests_where_every_sign_disagrees(rule: str, scaling: str) -> None:
    own = Run(rule, [np.ones(4)], lr=0.1, scaling=scaling)
    before = own.step([np.full(4, 10.0)])[0]
    after = own.step([np.full(4, -0.1)])[0]
    np.testing.assert_array_equal(after, before)


def test_cautious_scale() -> None:
    assert scale("mean", 1, 4) == 4
    assert scale("mean", 1, 10_000) == 1000
    assert scale("mean", 0, 5) == 1000
    assert scale("count", 1, 4) == 2
    assert scale("count", 0, 5) == 5


def test_cautious_muon_is_muon_on_the_first_step() -> None:
    setting = noise((3, 4), (5, 2), steps=1)
    script = [[g + 0.01 for g in each] for each in setting.gradients()]
    hyper = {"lr": 0.05, "weight_decay": 0.1}
    one = path_of("cautious-muon", script, setting.start(), **hyper)
    assert_paths(one, path_of("muon", script, setting.start(), **hyper), 1e-6)


def test_cautious_muon_forgets_entries_that_disagree() -> None:
    own = Run("cautious-muon", [np.zeros((2, 2))], lr=0.1, momentum=0.5)
    own.step([np.array([[1.0, 0.0], [0.0, 1.0]])])
    before = own.points[0]
    moved = own.step([np.array([[1.0, 0.0], [0.0, -0.1]])])[0] - before
    assert moved[0, 0] < -0.05
    np.testing.assert_array_equal(moved[1], 0.0)


def _cautious_adafactor(start: Arrays, script: list[Arrays], beta1: float) -> Iterator[Arrays]:
    """The published C-Adafactor: the mean of the steps is masked, n / (agreeing + 1) scales it."""
    theta, m = [x.copy() for x in start], [0 * x for x in start]
    rows = [0 * x[..., :1] if x.ndim > 1 else 0 * x for x in start]
    columns = [0 * x[..., :1, :] if x.ndim > 1 else 0 * x for x in start]
    for t, gradients in enumerate(script, start=1):
        b2 = 1 - t**-0.8
        for i, g in enumerate(gradients):
            size = min(1e-2, t**-0.5) * max(1e-3, np.sqrt(np.mean(theta[i] ** 2)))
            axes = ((-1,), (-2,)) if g.ndim > 1 else ((), ())
            for sums, axis in zip((rows, columns), axes, strict=True):
                q = np.mean(g**2 + 1e-30, axis=axis, keepdims=True)
                sums[i] = b2 * sums[i] + (1 - b2) * q
            mean = np.mean(rows[i], axis=-2, keepdims=True) if g.ndim > 1 else columns[i]
            u = g / np.sqrt(rows[i] / mean * columns[i])
            u = size * u / max(1.0, np.sqrt(np.mean(u**2)))
            m[i] = beta1 * m[i] + (1 - beta1) * u
            mask = m[i] * g > 0
            theta[i] = theta[i] - m[i] * mask * g.size / (mask.sum() + 1)
        yield [x.copy() for x in theta]


@pytest.mark.parametrize("execution", ["loop", "auto"])
def test_cautious_adafactor_is_adafactor_with_the_counted_mask(execution: str) -> None:
    setting = noise((6,), (4, 5), (2, 3, 4))
    script, start = setting.gradients(), setting.start()
    hyper: dict[str, Any] = {"form": "paper", "beta1": 0.9, "execution": execution}
    modifiers = [Cautious(scaling="count")]
    found = path_of("adafactor", script, start, modifiers=modifiers, **hyper)
    assert_paths(found, list(_cautious_adafactor(start, script, 0.9)), 1e-13)


def test_cautious_state_bytes() -> None:
    assert numbers_kept("cautious-adamw", (3, 4)) == 2 * 12
    assert numbers_kept("cautious-lion", (3, 4)) == 12
    assert numbers_kept("cautious-muon", (3, 4)) == 12


# MARS


def _small(*shapes: tuple[int, ...], steps: int = 10) -> list[list[np.ndarray]]:
    """Return gradients whose norms stay below 1."""
    script = noise(*shapes, steps=steps).gradients()
    return [[g / (1 + np.sqrt(np.sum(g**2))) for g in each] for each in script]


@pytest.mark.parametrize(
    ("rule", "base", "hyper"),
    [
        ("mars-adamw", "adamw", {"betas": (0.95, 0.99)}),
        ("mars-lion", "signum", {"momentum": 0.95}),
        ("mars-shampoo", "muon", {"momentum": 0.95, "nesterov": False, "eps": 1e-9}),
    ],
)
def test_mars_without_gamma_is_the_base_rule(rule: str, base: str, hyper: dict[str, Any]) -> None:
    shapes = ((3, 4), (5, 2))
    script, start = _small(*shapes), noise(*shapes).start()
    settings_ = {"lr": 0.05, "weight_decay": 0.2}
    one = path_of(rule, script, start, gamma=0.0, **settings_)
    assert_paths(one, path_of(base, script, start, **settings_, **hyper), 1e-6)


def test_mars_rules_say_that_they_need_a_direction() -> None:
    with pytest.raises(NotImplementedError, match="MARSRule has no corrected_direction"):
        MARSRule().corrected_direction(torch.zeros(2, 2), State(), Numbers())


def test_mars_keeps_points_and_means_without_a_graph() -> None:
    p = torch.nn.Parameter(torch.ones(2, 3))
    state = MARSRule(exact=True).init(p)
    assert set(state) == {"exp_avg", "previous"}
    assert not any(x.requires_grad for x in state.values())


def test_mars_vectors_take_adamw() -> None:
    setting = noise((5,), (), (2, 3, 2, 2))
    one = path_of("mars-adamw", setting.gradients(), setting.start(), lr=1.0, lr_1d=0.1)
    hyper: dict[str, Any] = {"lr": 0.1, "betas": (0.9, 0.95), "weight_decay": 0.1}
    assert_paths(one, path_of("adamw", setting.gradients(), setting.start(), **hyper), 1e-13)


@pytest.mark.parametrize("rule", ["mars-adamw", "mars-lion", "mars-shampoo"])
def test_mars_vectors_rest_while_the_learning_rate_is_0(rule: str) -> None:
    setting = noise((5,), (3, 4), steps=3)
    path = path_of(rule, setting.gradients(), setting.start(), lr=0.0)
    assert_paths(path, [setting.start()] * 3, 0.0)


def test_mars_keeps_a_copy_of_the_last_gradient() -> None:
    setting = noise((3, 4), steps=6)
    expected = path_of("mars-adamw", setting.gradients(), setting.start())
    own = Run("mars-adamw", setting.start())
    for gradients, points in zip(setting.gradients(), expected, strict=True):
        np.testing.assert_array_equal(own.step(gradients)[0], points[0])
        own.optimizer.zero_grad(set_to_none=False)


_EXACT = {"lr": 0.1, "gamma": 0.4, "betas": (0.8, 0.9), "exact": True, "eps": 0.01}


def _batches(steps: int) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """Return curvatures and centres of a quadratic loss, anew for each step and tensor."""
    random = np.random.default_rng(5)
    shapes = ((3, 4), (5,))
    return [[(random.random(s), random.standard_normal(s)) for s in shapes] for _ in range(steps)]


def _exact_run(rule: str, steps: int, backward: bool, **hyper: Any) -> list[list[np.ndarray]]:
    """Return where a rule stands after each step with closures."""
    own = Run(rule, noise((3, 4), (5,)).start(), **_EXACT, **hyper)
    path = []
    for batch in _batches(steps):

        def closure(batch: Any = batch) -> torch.Tensor:
            own.optimizer.zero_grad()
            terms = [
                (torch.tensor(a) * (p - torch.tensor(b)).square()).sum() / 2
                for p, (a, b) in zip(own.params, batch, strict=True)
            ]
            loss = torch.stack(terms).sum()
            if backward:
                loss.backward()
            return loss

        assert float(own.optimizer.step(closure)) > 0
        path.append(own.points)
    return path


@pytest.mark.parametrize("optimize_1d", [False, True])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("rule", ["mars-adamw", "mars-lion", "mars-shampoo"])
def test_mars_exact_equals_its_reference(rule: str, backward: bool, optimize_1d: bool) -> None:
    batches = _batches(12)

    def gradient(t: int, points: list[np.ndarray]) -> list[np.ndarray]:
        return [a * (x - b) for x, (a, b) in zip(points, batches[t - 1], strict=True)]

    hyper = {**_EXACT, "optimize_1d": optimize_1d}
    expected = run(MARS[rule], noise((3, 4), (5,)).start(), gradient, 12, **hyper)
    found = _exact_run(rule, 12, backward, optimize_1d=optimize_1d)
    assert_paths(found, [step.points for step in expected], 1e-12)


@pytest.mark.parametrize("rule", ["mars-adamw", "mars-lion", "mars-shampoo"])
def test_mars_exact_sees_both_gradients_alike(rule: str) -> None:
    batches = _batches(8)

    def gradient(t: int, points: list[np.ndarray]) -> list[np.ndarray]:
        found = [a * (x - b) for x, (a, b) in zip(points, batches[t - 1], strict=True)]
        norm = math.sqrt(sum(float(np.sum(g**2)) for g in found))
        return [-g * min(1.0, 0.7 / (norm + 1e-6)) for g in found]

    expected = run(MARS[rule], noise((3, 4), (5,)).start(), gradient, 8, **_EXACT)
    found = _exact_run(rule, 8, False, maximize=True, modifiers=(ClipNorm(0.7),))
    assert_paths(found, [step.points for step in expected], 1e-12)


def test_mars_exact_needs_a_closure() -> None:
    own = Run("mars-adamw", [np.ones((2, 2))], exact=True)
    assert getattr(own.optimizer, "needs_closure")  # noqa: B009
    own.params[0].grad = torch.ones_like(own.params[0])
    with pytest.raises(UsageError, match="closure"):
        own.optimizer.step()
    assert not own.optimizer.state
    assert not getattr(Run("mars-adamw", [np.ones(2)]).optimizer, "needs_closure")  # noqa: B009


def test_mars_exact_gradients_absent_from_the_loss() -> None:
    """A tensor that the batch does not reach rests, and is corrected from zero when it returns."""
    own = Run("mars-adamw", [np.ones((2, 2)), np.ones((1, 2))], **_EXACT)
    first, second = own.params
    for _ in range(2):
        own.optimizer.step(lambda: (first**2).sum())
    assert list(own.optimizer.state) == [first]
    own.optimizer.step(lambda: (second**2).sum())
    expected = Run("mars-adamw", [np.ones((1, 2))], **_EXACT)
    expected.optimizer.step(lambda: (expected.params[0] ** 2).sum())
    np.testing.assert_array_equal(own.points[1], expected.points[0])


def test_mars_state_bytes() -> None:
    assert numbers_kept("mars-adamw", (3, 4)) == 3 * 12
    assert numbers_kept("mars-adamw", (3, 4), amsgrad=True) == 4 * 12
    assert numbers_kept("mars-adamw", (5,)) == 2 * 5
    assert numbers_kept("mars-lion", (3, 4)) == 2 * 12
    assert numbers_kept("mars-shampoo", (3, 4)) == 2 * 12
    assert numbers_kept("mars-shampoo", (5,), optimize_1d=True) == 3 * 5
