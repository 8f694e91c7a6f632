"""Averages in bfloat16: between the two neighbours of the exact number, and right on average."""

import pytest
import torch

from thalweg.average import bfloat16
from thalweg.average.bfloat16 import blend_rounded
from thalweg.engine.kernel import NoCompilerError

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


@pytest.fixture(params=["compiled", "without a compiler"])
def ways(request, monkeypatch):
    if request.param != "compiled":

        def refuse(dtype):
            raise NoCompilerError(f"none for {dtype}")

        monkeypatch.setattr(bfloat16, "_kernel", refuse)


def pair(dtype, shape=(7, 5), seed=0):
    random = torch.Generator().manual_seed(seed)
    average = torch.randn(shape, generator=random).bfloat16()
    return average, torch.randn(shape, generator=random).to(dtype)


def laid_out(x, layout):
    if layout == "channels last":
        return x.to(memory_format=torch.channels_last)
    return x.mT.contiguous().mT if layout == "transposed" else x


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels last", "transposed"])
def test_numbers_are_neighbours_of_the_exact_ones_and_right_on_average(dtype, layout):
    before, point = (laid_out(x, layout) for x in pair(dtype, (2, 3, 4, 5)))
    exact = torch.lerp(before.double(), point.double(), 0.01)
    total = torch.zeros_like(exact)
    looks = 400
    for salt in range(looks):
        average = before.clone()
        blend_rounded([average], [point], 0.01, salt)
        assert ((average.double() - exact).abs() <= exact.abs() * 2**-7).all()
        total += average.double()
    spread = exact.abs() * 2**-7 / looks**0.5  # at most half a step of each
    assert ((total / looks - exact).abs() < 4 * spread).all()


@pytest.mark.usefixtures("ways")
def test_what_is_not_finite_stays():
    inf, nan = float("inf"), float("nan")
    average = torch.tensor([1.0, 1.0, 1.0, inf, nan]).bfloat16()
    blend_rounded([average], [torch.tensor([inf, -inf, nan, inf, 1.0])], 0.3, 3)
    assert str(average.tolist()) == str([inf, -inf, nan, nan, nan])


def test_kernel_and_torch_draw_the_same_bits(monkeypatch):
    kept = [pair(torch.float32, seed=seed)[0] for seed in range(50)]
    points = [pair(torch.float32, seed=seed)[1] for seed in range(50)]
    other = [x.clone() for x in kept]
    blend_rounded(kept, points, 0.3, 7)
    monkeypatch.setattr(bfloat16, "_is_flat", lambda x: False)
    blend_rounded(other, points, 0.3, 7)
    same = torch.stack(kept) == torch.stack(other)
    assert same.float().mean() > 0.999  # a fused multiply-add may tip one over
