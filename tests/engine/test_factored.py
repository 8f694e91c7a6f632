"""Factored mean squares, in C and in torch, against numpy in float64."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from thalweg.engine import factored, kernel
from thalweg.engine.factored import average_squares_, divided_by_root

SHAPES = [
    (3, 5),
    (1, 1),
    (4, 1),
    (2, 7, 3, 3),
    (130, 3, 3),
    (90, 1, 1),
    (70, 2, 5),
    (3, 9, 8),
    (70, 1500),
    (1500, 70),
    (5, 40, 200),
    (5000, 3, 3),
    (40000, 1, 1),
]


@pytest.fixture(params=["c", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setattr(factored, "_function", lambda *_: None)
    return request.param


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


class Other(torch.Tensor):
    """A tensor whose memory may be anywhere, for all that is known."""


def tensors(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    random = np.random.default_rng(0)
    x = random.standard_normal(shape)
    row, column = random.uniform(0.5, 2, x[..., :1].shape), random.uniform(0.5, 2, shape)
    return [torch.tensor(one, dtype=dtype) for one in (x, row, column[..., :1, :])]


def averaged(
    x: torch.Tensor, row: torch.Tensor, column: torch.Tensor, weight: float, floor: float
) -> list[np.ndarray]:
    squares = x.double().numpy() ** 2 + floor
    return [
        (1 - weight) * old.double().numpy() + weight * squares.mean(axis, keepdims=True)
        for old, axis in ((row, -1), (column, -2))
    ]


def divided(
    x: torch.Tensor, row: torch.Tensor, column: torch.Tensor, least_mean: float, least: float
) -> np.ndarray:
    a, r, c = (one.double().numpy() for one in (x, row, column))
    v = r * c / np.maximum(r.mean(-2, keepdims=True), least_mean)
    return a / np.sqrt(np.maximum(v, least))


def test_factored_squares_may_be_tiny(way: str) -> None:
    x = torch.tensor([[2e-30, 0.0], [0.0, -1e-30]])
    row, column = torch.full((2, 1), 1e-30), torch.full((1, 2), 1e-30)
    u, _ = divided_by_root(x, row, column)
    np.testing.assert_allclose(u.numpy(), x.numpy() / 1e-15, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_factored_squares(shape: tuple[int, ...], dtype: torch.dtype, way: str, threads: int):
    tolerance = 1e-13 if dtype == torch.float64 else 1e-6
    x, row, column = tensors(shape, dtype)
    before = x.clone()
    expected = averaged(x, row, column, 0.3, 0.25)
    average_squares_(row, column, x, 0.3, 0.25)
    for found, one in zip((row, column), expected, strict=True):
        np.testing.assert_allclose(found.numpy(), one, rtol=tolerance)
    # Both floors matter for a part of the matrices.
    for least_mean, least in ((0.0, 0.0), (0.8, 0.0), (0.0, 0.6), (1.2, 0.9)):
        expected = divided(x, row, column, least_mean, least)
        u, norm = divided_by_root(x, row, column, least_mean, least)
        np.testing.assert_allclose(u.numpy(), expected, rtol=5 * tolerance)
        assert float(norm) == pytest.approx(float(np.linalg.norm(expected)), rel=5 * tolerance)
        assert norm.shape == ()
        assert norm.dtype == u.dtype == dtype
    assert torch.equal(x, before)


def test_factored_squares_run_in_c_where_there_is_a_compiler() -> None:
    assert kernel.find_compiler()
    x, row, column = tensors((3, 5))
    assert factored._runs_in_c(x, row, column)
    assert factored._runs_in_c(torch.nn.Parameter(x), row, column)
    assert factored._runs_in_c(*tensors((1, 1)))
    assert not factored._runs_in_c(x.as_subclass(Other), row, column)
    assert not factored._runs_in_c(x, row, column.float())
    assert not factored._runs_in_c(*tensors((3, 5), torch.bfloat16))
    assert not factored._runs_in_c(*tensors((0, 5)))
    assert not factored._runs_in_c(x, torch.zeros(6, 1, dtype=x.dtype)[::2], column)
    assert not factored._runs_in_c(*(one.to("meta") for one in (x, row, column)))


def test_factored_squares_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(source: str) -> None:
        raise kernel.NoCompilerError("none")

    factored._function.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(factored, "load", none)
        assert not factored._runs_in_c(*tensors((3, 5)))
    factored._function.cache_clear()
    assert factored._runs_in_c(*tensors((3, 5)))


@pytest.mark.parametrize("shape", [(3, 3), (1, 1), (2, 4), (20, 30)])
def test_factored_squares_keep_nan_and_divide_nothing_by_nothing(
    shape: tuple[int, int], way: str
) -> None:
    x, row, column = tensors(shape)
    nothing = torch.zeros_like(x)
    row, column = torch.zeros_like(row), torch.zeros_like(column)
    u, norm = divided_by_root(nothing, row, column, 1e-16, 1e-32)
    assert torch.equal(u, nothing)
    assert norm == 0
    x[0, 0] = math.nan
    average_squares_(row, column, x, 1.0)
    assert row[0].isnan().all()
    assert column[:, 0].isnan().all()
    u, norm = divided_by_root(x, row, column, 1e-16, 1e-32)
    assert u.isnan().all()
    assert norm.isnan()


@pytest.mark.parametrize("shape", [(3, 3), (20, 30)])
def test_factored_squares_start_from_the_first_gradient(shape: tuple[int, int], way: str) -> None:
    x, row, column = tensors(shape)
    average_squares_(row, column, x, 1.0)
    torch.testing.assert_close(row, x.square().mean(1, keepdim=True))
    torch.testing.assert_close(column, x.square().mean(0, keepdim=True))


def test_factored_squares_are_the_same_in_every_run() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        runs = []
        for _ in range(5):
            x, row, column = tensors((300, 400), torch.float32)
            average_squares_(row, column, x, 0.3)
            runs.append((row, column, *divided_by_root(x, row, column)))
        for run in runs[1:]:
            assert all(map(torch.equal, run, runs[0]))
    finally:
        torch.set_num_threads(before)
