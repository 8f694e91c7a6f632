"""Both ends of a spectrum, and their ratio."""

import math

import pytest
import torch
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.landscape.curvature import condition_number, eigenpairs


def matrix(values: Tensor) -> Tensor:
    random = torch.Generator().manual_seed(0)
    n = len(values)
    q = torch.linalg.qr(torch.randn(n, n, generator=random, dtype=torch.float64))[0]
    return q @ torch.diag(values.double()) @ q.mT


def test_condition_number() -> None:
    a = matrix(torch.linspace(0.5, 20, 60))
    found = condition_number(a, tolerance=1e-6)
    assert found.value == pytest.approx(40, rel=1e-3)
    assert found.value <= 40 <= found.bound
    assert found.converged
    damped = condition_number(a, damping=1.5, tolerance=1e-6)
    assert damped.value == pytest.approx(21.5 / 2, rel=1e-3)
    assert (damped.largest, damped.smallest) == pytest.approx((20, 0.5), rel=1e-3)
    assert condition_number(torch.eye(1) * 3).value == 1


def test_what_is_not_known_is_said() -> None:
    found = condition_number(matrix(torch.logspace(-8, 0, 60)), max_products=8)
    assert not found.converged
    assert found.bound == math.inf
    with pytest.raises(UsageError, match="larger damping"):
        condition_number(matrix(torch.linspace(-1, 1, 9)))
    with pytest.raises(UsageError, match="finite"):
        condition_number(torch.eye(3), damping=math.nan)


def test_the_most_negative_curvature() -> None:
    a = matrix(torch.cat([torch.linspace(0, 1, 40), torch.tensor([-3.0, -0.5])]))
    found = eigenpairs(a, 1, "bottom", tolerance=1e-8)
    x = found.vectors[:, 0]
    assert float(x @ a @ x) == pytest.approx(-3)
    assert float((a @ x + 3 * x).norm()) <= 1e-7
    rough = eigenpairs(a, 1, "bottom", max_products=3, tolerance=1e-8)
    x = rough.vectors[:, 0]
    assert float(x @ a @ x) == pytest.approx(float(rough.values[0]))


def test_both_ends_take_turns() -> None:
    found = eigenpairs(matrix(torch.linspace(-2, 3, 30)), 3, "both", tolerance=1e-9)
    assert found.values.tolist() == pytest.approx([3, -2, 3 - 5 / 29])
