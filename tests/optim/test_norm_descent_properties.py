"""What the papers of Scion and of steepest descent under norms say that they do."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from rule_runs import Run, assert_paths, noise, path_of

from reference.settings import Setting
from thalweg import optim

# Scion


def _steps(rule: str, script: list[Any], start: list[np.ndarray], **hyper: Any) -> list[np.ndarray]:
    """Return the moves of the first tensor."""
    path = [start, *path_of(rule, script, start, **hyper)]
    return [after[0] - before[0] for before, after in pairwise(path)]


def _sizes(x: np.ndarray, norm: str) -> float:
    """Return the norm whose unit ball Scion's step stays in, of a matrix."""
    rows, columns = x.shape
    return {
        "sign": np.abs(x).max() * columns,
        "row": np.sqrt((x**2).sum(1)).max() * np.sqrt(columns),
        "column": np.sqrt((x**2).mean(0)).max(),
        "spectral": np.linalg.norm(x, 2) * np.sqrt(columns / rows),
    }[norm]


@pytest.mark.parametrize("norm", ["sign", "row", "column", "spectral"])
def test_scion_keeps_weights_in_the_ball(norm: str) -> None:
    setting = noise((4, 6), steps=40)
    start = [g / _sizes(g, norm) for g in setting.start()]
    own = Run("scion", [1.9 * p for p in start], lr=0.3, momentum=0.2, norm=norm, scale=2.0)
    # Newton-Schulz ends up to 1.14 for 1.
    radius = 2.0 * (1.14 if norm == "spectral" else 1.0) + 1e-12
    for gradients in setting.gradients():
        assert _sizes(own.step(gradients)[0], norm) <= radius


@pytest.mark.parametrize("norm", ["sign", "row", "column", "spectral"])
def test_scion_moves_by_its_scale(norm: str) -> None:
    setting = Setting("", "", {}, shapes=((4, 6),), steps=5, full=5)
    hyper: dict[str, Any] = {"lr": 0.1, "scale": 3.0, "norm": norm, "unconstrained": True}
    for move in _steps("scion", setting.gradients(), setting.start(), **hyper):
        assert abs(_sizes(move, norm) / 0.3 - 1) < (0.35 if norm == "spectral" else 1e-6)


def test_scion_keeps_nothing_where_momentum_is_one() -> None:
    own = Run("scion", [np.ones((2, 3))])
    own.step([np.ones((2, 3))])
    assert own.optimizer.state_bytes() == 0


# Steepest descent


def _dual(g: np.ndarray, norm: str) -> float:
    matrix = g.reshape(len(g), -1)
    nuclear = np.linalg.svd(matrix, compute_uv=False).sum()
    return {
        "sign": np.abs(g).sum(),
        "euclidean": np.sqrt((g**2).sum()),
        "spectral": nuclear,
        "rms-to-rms": nuclear * np.sqrt(len(matrix) / matrix.shape[1]),
        "embedding": (np.sqrt((matrix**2).sum(1)) * np.sqrt(matrix.shape[1])).sum(),
    }[norm]


@pytest.mark.parametrize("norm", ["sign", "euclidean", "spectral", "rms-to-rms", "embedding"])
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (3, 2, 2, 2)])
def test_steepest_descent_goes_by_the_dual_norm(norm: str, shape: tuple[int, ...]) -> None:
    setting = Setting("", "", {}, shapes=(shape, shape), steps=1, full=1)
    g = setting.gradients()[0]
    sizes: dict[str, Any] = {}
    for size in ("unit", "own", "all"):
        own = Run("steepest-descent", setting.start(), lr=1.0, norm=norm, size=size, exact=True)
        sizes[size] = [a - b for a, b in zip(setting.start(), own.step(g), strict=True)]
    duals = [_dual(one, norm) for one in g]
    for i in range(2):
        unit = sizes["unit"][i]
        np.testing.assert_allclose(np.sum(g[i] * unit), duals[i], rtol=1e-12)
        np.testing.assert_allclose(sizes["own"][i], duals[i] * unit, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(sizes["all"][i], sum(duals) * unit, rtol=1e-10, atol=1e-12)


def test_steepest_descent_moves_each_linear_layer_by_its_share() -> None:
    setting = Setting("", "", {}, shapes=((4, 6), (6, 3)), steps=1, full=1)
    own = Run("steepest-descent", setting.start(), lr=0.1, size="unit", exact=True)
    for before, after in zip(setting.start(), own.step(setting.gradients()[0]), strict=True):
        rows, columns = before.shape
        rms_to_rms = np.linalg.norm(after - before, 2) * np.sqrt(columns / rows)
        assert abs(rms_to_rms - 0.1) < 1e-13


def _moves(model: torch.nn.Module, params: Any, **hyper: Any) -> dict[str, torch.Tensor]:
    """Return by name how far one step of size 1 moves each parameter."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = optim.SteepestDescent(params, lr=1.0, size="unit", exact=True, **hyper)
    random = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=random, dtype=p.dtype)
    optimizer.step()
    return {name: before[name] - p.detach() for name, p in model.named_parameters()}


def _model() -> torch.nn.Module:
    parts = [torch.nn.Embedding(6, 3), torch.nn.Linear(3, 4), torch.nn.EmbeddingBag(5, 2)]
    return torch.nn.Sequential(*parts).double()


def _normalised(moves: dict[str, torch.Tensor], name: str) -> str:
    """Return which of two norms the move of a matrix is of size 1 and steepest under."""
    move = moves[name]
    rows, columns = move.shape
    if torch.allclose(move.square().mean(1), torch.ones(rows).double(), atol=1e-12):
        return "embedding"
    singular = torch.linalg.svdvals(move)
    assert torch.allclose(singular, torch.full_like(singular, (rows / columns) ** 0.5), atol=1e-9)
    return "rms-to-rms"


def _norms(model: torch.nn.Module, params: Any, **hyper: Any) -> list[str]:
    moves = _moves(model, params, **hyper)
    assert torch.allclose(moves["1.bias"].square().mean(), torch.ones(()).double())
    return [_normalised(moves, name) for name in ("0.weight", "1.weight", "2.weight")]


def test_steepest_descent_measures_a_model_s_embeddings_by_rows() -> None:
    by_role, alike = ["embedding", "rms-to-rms", "embedding"], ["rms-to-rms"] * 3
    model = _model()
    assert _norms(model, model) == by_role
    assert _norms(model, optim.groups(model)) == by_role
    assert _norms(model, model, norm="rms-to-rms") == alike
    assert _norms(model, model.named_parameters()) == alike
    own = [{"params": [model[0].weight, model[2].weight], "norm": "embedding"}]  # type: ignore[index]
    own += [{"params": list(model[1].parameters())}]  # type: ignore[index]
    assert _norms(model, own) == by_role


def test_steepest_descent_keeps_a_group_s_own_norm_rule_and_order() -> None:
    model = _model()
    groups = optim.SteepestDescent(model).param_groups
    assert [group["norm"] for group in groups] == ["auto", "embedding"]
    assert [group["param_names"] for group in groups] == [
        ["1.weight", "1.bias"],
        ["0.weight", "2.weight"],
    ]
    chosen = optim.groups(model, weight_decay=0.1)
    found = optim.SteepestDescent(chosen).param_groups
    assert [(len(group["params"]), group["norm"]) for group in found] == [
        (1, "auto"),
        (2, "embedding"),
        (1, "auto"),
    ]
    chosen = optim.groups(model, weight_decay=0.1)
    for group in chosen:
        group |= {"norm": "spectral"}
    assert [g["norm"] for g in optim.SteepestDescent(chosen).param_groups] == ["spectral"] * 2
    chosen = optim.groups(model, weight_decay=0.1)
    for group in chosen:
        group |= {"rule": "sgd"}
    assert [g["rule"] for g in optim.SteepestDescent(chosen).param_groups] == ["sgd"] * 2
    only = torch.nn.Embedding(3, 2)
    assert [g["norm"] for g in optim.SteepestDescent(only).param_groups] == ["embedding"]


# Old optimisers without averages are steepest descent under new norms.


def test_steepest_descent_by_signs_is_adam_without_averages() -> None:
    setting = noise((4, 6), (5,))
    script = setting.gradients()
    hyper: dict[str, Any] = {"lr": 0.1, "norm": "sign", "size": "unit"}
    one = path_of("steepest-descent", script, setting.start(), **hyper)
    two = path_of("adam", script, setting.start(), lr=0.1, betas=(0.0, 0.0), eps=1e-300)
    assert_paths(one, two, 1e-13)
    lion = {"lr": 0.1, "betas": (0.0, 0.0), "weight_decay": 0.0}
    assert_paths(one, path_of("lion", script, setting.start(), **lion), 1e-13)


def test_steepest_descent_in_the_euclidean_norm_is_gradient_descent() -> None:
    setting = noise((4, 6), (5,))
    script = setting.gradients()
    hyper: dict[str, Any] = {"lr": 0.1, "norm": "euclidean", "size": "own"}
    one = path_of("steepest-descent", script, setting.start(), **hyper)
    assert_paths(one, path_of("sgd", script, setting.start(), lr=0.1), 1e-12)


@pytest.mark.parametrize("shape", [(4, 6), (6, 4)])
def test_steepest_descent_in_the_spectral_norm_is_muon_without_averages(
    shape: tuple[int, int],
) -> None:
    setting = Setting("", "", {}, shapes=(shape,), steps=10, full=10)
    script = setting.gradients()
    hyper: dict[str, Any] = {"lr": 0.1, "norm": "spectral", "size": "unit"}
    one = path_of("steepest-descent", script, setting.start(), **hyper)
    lr = 0.1 / max(1.0, shape[0] / shape[1]) ** 0.5
    two = path_of("muon", script, setting.start(), lr=lr, momentum=0.0, weight_decay=0.0)
    assert_paths(one, two, 1e-12)


def test_steepest_descent_by_distance_is_prodigy_without_averages() -> None:
    setting = Setting("", "", {}, shapes=((4, 6), (5,)), steps=40, drift=1.5, full=40)
    script = setting.gradients()
    hyper: dict[str, Any] = {"lr": 1.0, "norm": "sign", "size": "distance", "d0": 1e-2}
    one = path_of("steepest-descent", script, setting.start(), **hyper)
    two = path_of("prodigy", script, setting.start(), betas=(0.0, 0.0), eps=1e-300, d0=1e-2)
    assert_paths(one, two, 1e-10)
    assert np.abs(one[-1][0] - setting.start()[0]).max() > 0.1


def test_steepest_descent_by_distance_waits_for_a_gradient() -> None:
    start = [np.ones((2, 3))]
    own = Run("steepest-descent", start, size="distance")
    np.testing.assert_array_equal(own.step([np.zeros((2, 3))])[0], start[0])
    assert own.optimizer.param_groups[0]["d"] == 1e-6


def test_steepest_descent_by_distance_keeps_the_start_as_a_constant() -> None:
    p = torch.nn.Parameter(torch.ones(2, 3))
    rule = optim.SteepestDescent.rule.from_hyper({"size": "distance"})
    (start,) = rule.init(p).values()
    assert not start.requires_grad
    assert start.data_ptr() != p.data_ptr()


def test_steepest_descent_adds_dual_norms_in_single_precision() -> None:
    g = np.random.default_rng(5).standard_normal((30, 30))
    own = Run("steepest-descent", [np.zeros((30, 30))], torch.bfloat16, norm="sign")
    own.step([g])
    expected = float(torch.tensor(g).bfloat16().float().abs().sum())
    assert abs(own.optimizer.param_groups[0]["length"] / expected - 1) < 1e-6
