"""What the papers of Shampoo say that it does."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_runs import Run, assert_paths, noise, path_of

from reference.settings import Setting
from thalweg import optim
from thalweg.engine import Numbers, State
from thalweg.engine.blocks import block_shapes, cut, join, merged_shape
from thalweg.optim.shampoo import _power

_PLAIN: dict[str, Any] = {
    "target_dims": None,
    "betas": (0.0, 1.0),
    "use_bias_correction": False,
    "lr": 1.0,
}


def _dense_direction(gradients: list[np.ndarray], eps: float) -> np.ndarray:
    """Return (L x R)^(-1/4) vec(g) by one eigendecomposition of the whole Kronecker product."""
    rows, columns = gradients[0].shape
    left = sum((g @ g.T for g in gradients), eps * np.eye(rows))
    right = sum((g.T @ g for g in gradients), eps * np.eye(columns))
    values, q = np.linalg.eigh(np.kron(left, right))
    return (q @ (values**-0.25 * (q.T @ gradients[-1].ravel()))).reshape(rows, columns)


@pytest.mark.parametrize("grafting", ["none", "sgd"])
@pytest.mark.parametrize("limit", [100, 3])
def test_shampoo_preconditions_as_a_dense_eigendecomposition(limit: int, grafting: str) -> None:
    setting = Setting("", "", {}, shapes=((3, 7),), steps=6, full=6)
    hyper: dict[str, Any] = {**_PLAIN, "max_preconditioner_dim": limit, "grafting": grafting}
    own = Run("shampoo", setting.start(), eps=1e-2, **hyper)
    script = [gradients[0] for gradients in setting.gradients()]
    places = [slice(None)] if limit == 100 else [slice(0, 3), slice(3, 6), slice(6, 7)]
    for t, g in enumerate(script, start=1):
        before = own.points[0]
        step = before - own.step([g])[0]
        for place in places:
            expected = _dense_direction([one[:, place] for one in script[:t]], 1e-2)
            if grafting == "sgd":
                expected *= np.sqrt(np.sum(g[:, place] ** 2) / np.sum(expected**2))
            np.testing.assert_allclose(step[:, place], expected, rtol=0, atol=1e-11)


def test_shampoo_by_single_entries_is_adagrad() -> None:
    setting = noise((4, 3), (5,))
    theta, sums, expected = setting.start(), [np.zeros((4, 3)), np.zeros(5)], []
    for gradients in setting.gradients():
        for i, g in enumerate(gradients):
            sums[i] = sums[i] + g**2
            theta[i] = theta[i] - 0.1 * g / np.sqrt(sums[i] + 1e-6)
        expected.append(list(theta))
    hyper = {**_PLAIN, "lr": 0.1, "eps": 1e-6, "max_preconditioner_dim": 1}
    hyper |= {"inverse_exponent": 0.25}
    found = path_of("shampoo", setting.gradients(), setting.start(), **hyper)
    assert_paths([[one[0]] for one in found], [[one[0]] for one in expected], 1e-11)
    del hyper["inverse_exponent"]
    found = path_of("shampoo", setting.gradients(), setting.start(), **hyper)
    assert_paths(found, expected, 1e-11)


@pytest.mark.parametrize("grafting", ["sgd", "adagrad", "rmsprop", "adam"])
def test_shampoo_takes_the_size_of_the_grafted_method(grafting: str) -> None:
    setting = Setting("", "", {}, shapes=((4, 6), (5,)), steps=8, full=8)
    hyper: dict[str, Any] = {"lr": 0.1, "eps": 1e-6, "max_preconditioner_dim": 4}
    hyper |= {"grafting": grafting, "target_dims": None}
    grafted = _Moves(Run("shampoo", setting.start(), **hyper))
    alone = _Moves(Run("shampoo", setting.start(), start_preconditioning_step=99, **hyper))
    free = _Moves(Run("shampoo", setting.start(), **{**hyper, "grafting": "none"}))
    for gradients in setting.gradients():
        for x, y, z in zip(*(one.step(gradients) for one in (grafted, alone, free)), strict=True):
            cuts = [slice(0, 4), slice(4, None)]
            for a, b, c in ((w[..., one] for w in (x, y, z)) for one in cuts):
                np.testing.assert_allclose(np.sum(a**2), np.sum(b**2), rtol=1e-9)
                np.testing.assert_allclose(
                    np.sum(a * c) ** 2, np.sum(a**2) * np.sum(c**2), rtol=1e-9
                )


def test_shampoo_grafts_onto_next_to_nothing_as_its_authors_do() -> None:
    """|D| / (|P| + 1e-16), with factors so near to the identity that P and D are g."""
    g = np.array([[0.0, 3e-17], [4e-17, 0.0]])
    hyper: dict[str, Any] = {**_PLAIN, "eps": 1.0, "grafting": "sgd"}
    step = -Run("shampoo", [np.zeros((2, 2))], **hyper).step([g])[0]
    np.testing.assert_allclose(step, g * 5e-17 / (5e-17 + 1e-16), rtol=1e-12, atol=0)


class _Moves:
    """A run by its steps."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def step(self, gradients: list[np.ndarray]) -> list[np.ndarray]:
        before = self.run.points
        return [a - b for a, b in zip(before, self.run.step(gradients), strict=True)]


@pytest.mark.parametrize(
    ("grafting", "plain"), [("sgd", {"rule": "sgd"}), ("adam", {"rule": "adam", "eps": 1e-10})]
)
def test_shampoo_waiting_is_the_grafted_method(grafting: str, plain: dict[str, Any]) -> None:
    setting = noise((4, 6), (5,))
    script = setting.gradients()
    hyper: dict[str, Any] = {"lr": 0.1, "grafting": grafting, "start_preconditioning_step": 99}
    if grafting == "sgd":
        hyper |= {"betas": (0.0, 1.0)}
    one = path_of("shampoo", script, setting.start(), **hyper)
    plain = {"lr": 0.1, **plain}
    assert_paths(one, path_of(plain.pop("rule"), script, setting.start(), **plain), 1e-12)


@pytest.mark.parametrize("shape", [(4, 6), (6, 4)])
def test_shampoo_without_averages_is_steepest_descent_in_the_spectral_norm(
    shape: tuple[int, int],
) -> None:
    setting = Setting("", "", {}, shapes=(shape,), steps=8, full=8)
    script = setting.gradients()
    hyper: dict[str, Any] = {"lr": 0.1, "betas": (0.0, 0.0), "target_dims": None, "eps": 1e-12}
    one = path_of("shampoo", script, setting.start(), **hyper)
    hyper = {"lr": 0.1, "norm": "spectral", "size": "unit", "exact": True}
    assert_paths(one, path_of("steepest-descent", script, setting.start(), **hyper), 1e-6)


def test_shampoo_decomposes_equal_sizes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting("", "", {}, shapes=((4, 6), (8, 3), (5,)), steps=2, full=2)
    hyper: dict[str, Any] = {"max_preconditioner_dim": 4, "target_dims": None, "eps": 1e-3}
    apart = [
        path_of("shampoo", [[one[i]] for one in setting.gradients()], [start], **hyper)
        for i, start in enumerate(setting.start())
    ]
    shapes, eigh = [], torch.linalg.eigh

    def counted(x: torch.Tensor) -> Any:
        shapes.append(tuple(x.shape))
        return eigh(x)

    monkeypatch.setattr(torch.linalg, "eigh", counted)
    together = path_of("shampoo", setting.gradients(), setting.start(), **hyper)
    # 4x6 is 4x4 and 4x2, 8x3 is 4x3 twice, 5 is 4 and 1.
    assert sorted(shapes[:4]) == [(1, 1, 1), (1, 2, 2), (2, 3, 3), (6, 4, 4)]
    assert len(shapes) == 8
    assert_paths(together, [[one[t][0] for one in apart] for t in range(2)], 1e-14)


def test_shampoo_finds_no_roots_while_it_waits() -> None:
    setting = noise((4,), steps=5)
    own = Run("shampoo", setting.start(), precondition_frequency=2, start_preconditioning_step=5)
    for t, g in enumerate(setting.gradients(), start=1):
        own.step(g)
        root = own.optimizer.state[own.params[0]]["root_0_0"][0]
        assert torch.equal(root, torch.eye(4).double()) == (t < 5)


def test_shampoo_carries_nan_and_stands_still_without_gradients() -> None:
    g = np.ones((2, 3))
    np.testing.assert_array_equal(Run("shampoo", [g]).step([np.zeros((2, 3))])[0], g)
    g[0, 0] = np.nan
    assert np.isnan(Run("shampoo", [np.ones((2, 3))]).step([g])[0]).all()


def test_shampoo_keeps_its_state_in_single_precision() -> None:
    hyper: dict[str, Any] = {"grafting": "adam", "momentum": 0.9}
    own = Run("shampoo", [np.ones((2, 3))], torch.bfloat16, **hyper)
    own.step([np.ones((2, 3))])
    state = own.optimizer.state[own.params[0]]
    dtypes = {x.dtype for x in state.values() if isinstance(x, torch.Tensor)}
    assert dtypes == {torch.float32}
    assert own.params[0].dtype == torch.bfloat16


@settings(deadline=None, max_examples=30)
@given(shape=st.lists(st.integers(0, 7), min_size=1, max_size=4), limit=st.integers(1, 8))
def test_shampoo_blocks_come_together_again(shape: list[int], limit: int) -> None:
    x = torch.arange(int(np.prod(shape)), dtype=torch.float64).reshape(shape)
    stacks = cut(x, limit)
    assert [(len(one), tuple(one.shape[1:])) for one in stacks] == block_shapes(shape, limit)
    assert all(max(one.shape[1:]) <= limit for one in stacks)
    assert len(stacks) <= 2 ** len(shape)
    if x.numel():
        torch.testing.assert_close(join(stacks, shape, limit), x, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("shape", "limit", "axes", "expected"),
    [
        ((), 8, 1, (1,)),
        ((1, 1), 8, 1, (1,)),
        ((1, 2, 5, 1), 10, 1, (10,)),
        ((1, 2, 5, 1), 9, 1, (2, 5)),
        ((32, 3, 64, 64), 8192, 1, (96, 4096)),
        ((32, 3, 64, 64), 1_000_000, 2, (32, 12288)),
    ],
)
def test_shampoo_merges_from_the_last_axis_on(
    shape: tuple[int, ...], limit: int, axes: int, expected: tuple[int, ...]
) -> None:
    assert merged_shape(shape, limit, axes) == expected


def test_shampoo_keeps_what_it_needs() -> None:
    rule = optim.Shampoo.rule.from_hyper({})
    p = torch.zeros(2, 3)
    assert set(rule.init(p)) == {"exp_avg", "factor_0_0", "root_0_0"}
    rule = optim.Shampoo.rule.from_hyper({"momentum": 0.9, "grafting": "adam", "target_dims": None})
    names = {"exp_avg", "grafting_sq", "momentum_buffer"}
    names |= {"factor_0_0", "root_0_0", "factor_0_1", "root_0_1"}
    assert set(rule.init(p)) == names


def test_shampoo_updates_one_tensor_as_it_updates_several() -> None:
    start, g = np.ones((2, 3)), np.arange(6.0).reshape(2, 3)
    rule = optim.Shampoo.rule.from_hyper({"lr": 1.0, "eps": 1e-2})
    p = torch.tensor(start)
    d = rule.update(
        torch.tensor(g), p, State(**rule.init(p)), Numbers(weight_decay=0.0, **rule.scalars(1))
    )
    np.testing.assert_allclose(
        start - d.numpy(), Run("shampoo", [start], lr=1.0, eps=1e-2).step([g])[0], atol=1e-14
    )


def test_shampoo_raises_eigenvalues_to_eps() -> None:
    x = torch.diag_embed(torch.tensor([[-0.1, 1.0], [0.5, 2.0], [torch.nan, 1.0]]).double())
    exponents = torch.tensor([[-0.25], [-0.5], [-0.5]], dtype=torch.float64)
    found = _power(x, exponents, 0.01)
    expected = torch.tensor([[0.01**-0.25, 1.11**-0.25], [0.51**-0.5, 2.01**-0.5]])
    torch.testing.assert_close(found[:2], torch.diag_embed(expected.double()), rtol=1e-6, atol=1e-8)
    assert found[2].isnan().all()
