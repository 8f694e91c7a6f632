"""An independent library computes the same matrices of nets with convolutions and linear layers."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from thalweg.landscape import Objective
from thalweg.landscape.curvature import (
    EmpiricalFisher,
    Fisher,
    GaussNewton,
    Hessian,
    kronecker_factored,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what it imports
    curvlinops = pytest.importorskip("curvlinops", exc_type=ImportError)

LOSS = nn.CrossEntropyLoss()


def convolutional() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.BatchNorm2d(3), nn.Tanh()),
        *(nn.Conv2d(3, 2, 2, bias=False), nn.Sigmoid(), nn.Flatten(), nn.Linear(8, 3)),
    )


def plain() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.ReLU(), nn.Linear(4, 3, bias=False))


@pytest.fixture(params=[convolutional, plain])
def case(request: pytest.FixtureRequest) -> tuple[Objective, list[Any]]:
    """An objective in float64 with batches of two sizes, and what the library takes."""
    torch.manual_seed(0)
    model = request.param().double().eval()
    data = [(torch.randn(n, 1, 6, 6).double(), torch.randint(3, (n,))) for n in (5, 2)]
    objective = Objective(model, lambda model, batch: LOSS(model(batch[0]), batch[1]), data)
    return objective, [model, LOSS, [p for p in model.parameters() if p.requires_grad], data]


def dense(operator: Any, size: int) -> Tensor:
    return operator @ torch.eye(size, dtype=torch.float64)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Hessian, "HessianLinearOperator"),
        (GaussNewton, "GGNLinearOperator"),
        (Fisher, "GGNLinearOperator"),
        (EmpiricalFisher, "EFLinearOperator"),
    ],
)
def test_curvature(ours: Any, theirs: str, case: tuple[Objective, list[Any]]) -> None:
    objective, words = case
    matrix = ours(objective).dense()
    other = getattr(curvlinops, theirs)(*words)
    torch.testing.assert_close(matrix, dense(other, len(matrix)), rtol=1e-9, atol=1e-12)


def test_kronecker_factors(case: tuple[Objective, list[Any]]) -> None:
    objective, (model, loss, _, data) = case
    for layer in model.modules():  # neither covers normalisation
        if isinstance(layer, nn.BatchNorm2d):
            layer.requires_grad_(False)
    params = [p for p in model.parameters() if p.requires_grad]
    size = sum(p.numel() for p in params)
    # Its factors are means over all batches, as ours are.
    other = curvlinops.KFACLinearOperator(
        *(model, loss, params, data),
        fisher_type="type-2",
        kfac_approx="expand",
        separate_weight_and_bias=False,
    )
    ours = dense(kronecker_factored(objective), size)
    torch.testing.assert_close(ours, dense(other, size), rtol=1e-9, atol=1e-12)
