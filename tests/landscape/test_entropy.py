"""Local entropy of quadratics, which is known."""

import math

import pytest
import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.landscape import Objective, local_entropy

VALUES = torch.tensor([0.0, 0.3, 2.0, 9.0], dtype=torch.float64)


class Point(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.4, -1.0, 0.5, 0.2], dtype=torch.float64))


def quadratic(model: Point, batch: Tensor) -> Tensor:
    return 0.5 * (VALUES * model.w.square()).sum() + 0.7


def test_a_quadratic() -> None:
    model = Point()
    before = model.w.detach().clone()
    objective = Objective(model, quadratic, [torch.ones(1)])
    gamma = 4.0
    # A normal integral: each direction gives a factor of its own.
    exponent = (before.square() * VALUES * gamma / (2 * (gamma + VALUES))).sum()
    exact = -0.7 - 0.5 * float(torch.log1p(VALUES / gamma).sum()) - float(exponent)
    found = local_entropy(objective, gamma, pairs=2000)
    assert abs(found.value - exact) < 4 * found.error < 0.1
    assert 1 < found.effective <= found.points == 4000
    assert found.loss == objective.value()
    assert torch.equal(before, model.w)
    assert local_entropy(objective, gamma, pairs=9) == local_entropy(objective, gamma, pairs=9)
    assert local_entropy(objective, 1e12).value == pytest.approx(-found.loss, abs=1e-4)


def test_losses_that_are_not_finite() -> None:
    model = Point()

    def broken(model: Point, batch: Tensor) -> Tensor:
        return torch.where(model.w[0] == 0.4, 1.0, math.nan) * model.w.square().sum()

    assert math.isnan(local_entropy(Objective(model, broken, [torch.ones(1)]), 1.0).value)


@pytest.mark.parametrize(("gamma", "pairs"), [(0.0, 4), (math.inf, 4), (1.0, 1)])
def test_impossible_arguments_are_refused(gamma: float, pairs: int) -> None:
    with pytest.raises(UsageError, match="gamma"):
        local_entropy(Objective(Point(), quadratic, [torch.ones(1)]), gamma, pairs=pairs)
