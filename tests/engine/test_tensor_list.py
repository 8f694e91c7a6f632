"""A list of tensors computes what each of its tensors would."""

import operator

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from thalweg.engine import TensorList

UNARY = (
    *("abs", "neg", "sqrt", "square", "exp", "log", "reciprocal", "rsqrt", "sign", "tanh"),
    *("sigmoid", "isnan", "zero_", "sqrt_", "abs_"),
)
BINARY = ("add", "sub", "mul", "truediv", "pow", "gt", "ge", "lt", "le", "eq", "ne")
SHAPES = ((), (3,), (2, 4), (0,))


def tensors(seed: int) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.rand(s, generator=random, dtype=torch.float64) + 0.1 for s in SHAPES]


def check(found: TensorList, expected: list[torch.Tensor]) -> None:
    for a, b in zip(found.tensors, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("name", UNARY)
def test_methods(name: str) -> None:
    check(getattr(TensorList(tensors(0)), name)(), [getattr(x, name)() for x in tensors(0)])


@pytest.mark.parametrize("name", BINARY)
@given(number=st.floats(0.25, 4.0) | st.integers(1, 3))
def test_operators(name: str, number: float) -> None:
    act = getattr(operator, name)
    xs, ys = tensors(1), tensors(2)
    check(act(TensorList(xs), TensorList(ys)), [act(x, y) for x, y in zip(xs, ys, strict=True)])
    check(act(TensorList(xs), number), [act(x, number) for x in xs])
    check(act(number, TensorList(xs)), [act(number, x) for x in xs])


@given(weight=st.floats(0.0, 1.0))
def test_fused_methods_and_functions(weight: float) -> None:
    xs, ys, zs = tensors(1), tensors(2), tensors(3)
    a, b, c = (TensorList(tensors(seed)) for seed in (1, 2, 3))
    rows = list(zip(xs, ys, zs, strict=True))
    check(a.lerp(b, weight), [x.lerp(y, weight) for x, y, _ in rows])
    check(a.add(b, alpha=weight), [x.add(y, alpha=weight) for x, y, _ in rows])
    check(a.addcdiv(b, c, value=weight), [x.addcdiv(y, z, value=weight) for x, y, z in rows])
    check(a.clamp(min=weight), [x.clamp(min=weight) for x in xs])
    check(torch.maximum(a, b), [torch.maximum(x, y) for x, y, _ in rows])
    check(torch.where(a > b, b, c), [torch.where(x > y, y, z) for x, y, z in rows])
    check(-a, [-x for x in xs])
    total = torch.cat([x.flatten() for x in xs]).sum()
    torch.testing.assert_close(a.sum(), total)
    assert a.lerp_(b, weight) is a
    check(a, [x.lerp(y, weight) for x, y, _ in rows])
