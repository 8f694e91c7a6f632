"""What the papers of rules for matrices say that they do."""

import copy
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from rule_runs import Run, assert_paths, noise, path_of

from thalweg import optim
from thalweg.engine import newton_schulz
from thalweg.engine.orthogonal import polar_factor
from thalweg.engine.radial import without_radial_part

# AdamP and SGDP


def _on_directions(target: np.ndarray) -> Any:
    """Return the gradient of 0.5 |p / |p| - target|^2, which p's scale leaves as it is."""

    def gradient(t: int, points: list[np.ndarray]) -> list[np.ndarray]:
        norm = np.sqrt(np.sum(points[0] ** 2))
        unit = points[0] / norm
        return [(np.sum(unit * target) * unit - target) / norm]

    return gradient


@pytest.mark.parametrize("rule", ["adamp", "sgdp"])
def test_scale_invariant_weights_do_not_grow_along_themselves(rule: str) -> None:
    rng = np.random.default_rng(3)
    start, target = rng.standard_normal((2, 4, 6))
    hyper: dict[str, Any] = {"lr": 0.05}
    if rule == "sgdp":
        hyper |= {"momentum": 0.9}
    own = Run(rule, [start], **hyper)
    gradient = _on_directions(target / np.sqrt(np.sum(target**2)))
    for _ in range(30):
        before = own.points[0]
        step = own.step(gradient)[0] - before
        along = np.sum(step * before) / np.sqrt(np.sum(before**2) * np.sum(step**2))
        assert abs(along) < 1e-7


def test_adamp_grows_less_than_adam_on_scale_invariant_weights() -> None:
    rng = np.random.default_rng(3)
    start, target = rng.standard_normal((2, 4, 6))
    gradient = _on_directions(target / np.sqrt(np.sum(target**2)))
    growth = {}
    for rule in ("adam", "adamp"):
        own = Run(rule, [start], lr=0.05)
        for _ in range(40):
            end = own.step(gradient)[0]
        growth[rule] = np.sqrt(np.sum(end**2)) - np.sqrt(np.sum(start**2))
    assert 0 < growth["adamp"] < 0.9 * growth["adam"]


@pytest.mark.parametrize(("rule", "plain"), [("adamp", "adamw"), ("sgdp", "sgd")])
def test_vectors_take_the_plain_rule(rule: str, plain: str) -> None:
    setting = noise((5,), ())
    hyper: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.3 if rule == "adamp" else 0.0}
    one = path_of(rule, setting.gradients(), setting.start(), delta=1e9, **hyper)
    two = path_of(plain, setting.gradients(), setting.start(), **hyper)
    assert_paths(one, two, 1e-13)


def test_adamp_takes_gradients_below_eps_as_small() -> None:
    p = torch.ones(2, 2, dtype=torch.float64)
    for eps, fires in ((1e-8, False), (0.1, True)):
        _, taken = without_radial_part(p, 1e-3 * p, p, 0.1, eps)
        assert bool(taken) == fires


# Muon and SOAP


@pytest.mark.parametrize(
    ("rule", "hyper"),
    [
        ("muon", {}),
        ("soap", {"precondition_frequency": 2}),
        ("soap", {"precondition_frequency": 2, "normalize_grads": True}),
    ],
)
def test_tensors_in_stacks_step_as_if_alone(rule: str, hyper: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (4, 3), (3, 4), (2, 3, 2), (3, 4), (2, 3, 2)]
    start = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    together, alone = copy.deepcopy(start), copy.deepcopy(start)
    one = optim.create(rule, [(f"layer.{i}", p) for i, p in enumerate(together)], **hyper)
    others = [optim.create(rule, [("layer", p)], **hyper) for p in alone]
    for _ in range(7):
        for a, b in zip(together, alone, strict=True):
            a.grad = torch.randn(a.shape, generator=generator, dtype=a.dtype)
            b.grad = a.grad.clone()
        one.step()
        for other in others:
            other.step()
    for a, b, other, before in zip(together, alone, others, start, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)
        assert not torch.equal(a, before)
        for name, x in other.state[b].items():
            if torch.is_tensor(x):
                torch.testing.assert_close(one.state[a][name], x, rtol=1e-11, atol=1e-11)


def test_soap_factors_are_means_of_outer_products() -> None:
    setting = noise((3, 4), steps=4)
    own = Run("soap", setting.start(), shampoo_beta=0.7)
    rows, columns = np.zeros((3, 3)), np.zeros((4, 4))
    for (g,) in setting.gradients():
        own.step([g])
        rows = 0.7 * rows + 0.3 * g @ g.T
        columns = 0.7 * columns + 0.3 * g.T @ g
    state = own.optimizer.state[own.params[0]]
    np.testing.assert_allclose(state["factor_0"], rows, rtol=1e-12)
    np.testing.assert_allclose(state["factor_1"], columns, rtol=1e-12)


# AdaGO


def _steps(rule: str, script: list[Any], start: list[np.ndarray], **hyper: Any) -> list[np.ndarray]:
    """Return the moves of the first tensor."""
    path = [start, *path_of(rule, script, start, **hyper)]
    return [after[0] - before[0] for before, after in pairwise(path)]


def test_adago_steps_are_orthogonal_and_shrink_to_eps() -> None:
    setting = noise((4, 6), steps=40, drift=1.0)
    hyper: dict[str, Any] = {"lr": 0.1, "eps": 0.02, "exact": True}
    moves = _steps("adago", setting.gradients(), setting.start(), **hyper)
    lengths = []
    for move in moves:
        s = np.linalg.svd(move, compute_uv=False)
        np.testing.assert_allclose(s, s[0], rtol=1e-10)
        lengths.append(s[0])
    assert abs(lengths[0] - 0.1) < 1e-10
    assert min(lengths) >= 0.02 - 1e-12
    assert max(lengths) <= 0.1 + 1e-12
    assert abs(lengths[-1] - 0.02) < 1e-10


def test_adago_does_not_move_without_a_learning_rate_or_gradient() -> None:
    setting = noise((4, 6))
    for hyper, script in (
        ({"lr": 0.0}, setting.gradients()),
        ({"exact": True}, [[np.zeros((4, 6))]] * 3),
        ({}, [[np.zeros((4, 6))]] * 3),
    ):
        for points in path_of("adago", script, setting.start(), **hyper):
            np.testing.assert_array_equal(points[0], setting.start()[0])


def test_adago_exact_carries_nan() -> None:
    g = np.ones((2, 3))
    g[0, 0] = np.nan
    assert np.isnan(Run("adago", [np.ones((2, 3))], exact=True).step([g])[0]).all()
    assert polar_factor(torch.tensor([[1.0, np.inf]])).isnan().all()


def test_adago_exact_leaves_out_what_is_zero_up_to_rounding() -> None:
    eps = torch.finfo(torch.float64).eps
    for scale in (1.0, 1e-200):
        for second, kept in ((5 * eps, 0.0), (9 * eps, 1.0)):
            x = torch.zeros(2, 8, dtype=torch.float64)
            x[0, 0], x[1, 1] = scale, second * scale
            expected = torch.zeros_like(x)
            expected[0, 0], expected[1, 1] = 1.0, kept
            torch.testing.assert_close(polar_factor(x), expected)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adago_works_in_single_precision_on_cpus(dtype: torch.dtype, exact: bool) -> None:
    g = np.random.default_rng(5).standard_normal((4, 4))
    own = Run("adago", [np.zeros((4, 4))], dtype, lr=1.0, momentum=0.0, exact=exact, v0=1e-20)
    own.step([g])
    rounded = torch.tensor(g).to(dtype).float()
    expected = -(polar_factor(rounded) if exact else newton_schulz(rounded)).to(dtype)
    torch.testing.assert_close(own.params[0].detach(), expected, rtol=0, atol=0)
    norm_sq = own.optimizer.state[own.params[0]]["norm_sq"]
    torch.testing.assert_close(norm_sq, (rounded * rounded).sum())
