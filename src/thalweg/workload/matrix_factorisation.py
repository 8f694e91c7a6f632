"""`matrix-factorisation`: the best approximation of a matrix by two thin factors."""

from typing import Any

import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.core.seeds import generator
from thalweg.workload.workload import Workload

FACTS: dict[str, Any] = {
    "name": "matrix-factorisation",
    "title": "Matrix factorisation",
    "description": "A 50 x 40 matrix from two factors of rank 5, learnt from its 2,000 entries; "
    "the best there is follows from its singular values, which are 1, 1/2, 1/3 and so on.",
    "architecture": "Factors of 50 x 5 and 5 x 40, small at the start: 450 parameters.",
    "loss_name": "squared error of an entry, divided by the entries' mean square",
    "metric_name": "loss above the minimum",
    "higher_is_better": False,
    "batch_size": 100,
    "steps": 600,
    "evaluate_every": 30,
    "data_source": "made by a seeded generator",
    "licence": "none needed",
}

Entries = tuple[Tensor, Tensor]


class Factors(nn.Module):
    """Places (n, 2) in a matrix to its entries (n,), those of the product of two factors."""

    def __init__(self, rows: int, columns: int, rank: int) -> None:
        super().__init__()
        self.left = nn.Parameter(0.1 * torch.randn(rows, rank))
        self.right = nn.Parameter(0.1 * torch.randn(rank, columns))

    def forward(self, places: Tensor) -> Tensor:
        """Return the entries."""
        rows, columns = places.unbind(1)
        return (self.left[rows] * self.right.T[columns]).sum(1)


def matrix_factorisation(rows: int = 50, columns: int = 40, rank: int = 5) -> Workload:
    """Return the workload.

    The matrix has random singular vectors and the singular values 1/k. By the theorem of Eckart
    and Young, "The approximation of one matrix by another of lower rank", 1936, the least squared
    error of a rank r is the sum of the squares of the singular values after the r-th; all other
    critical points are saddles.

    Args:
        rows: of the matrix, from 1.
        columns: of the matrix, from 1.
        rank: of the factors, from 1.

    Raises:
        UsageError: a number is less than 1.
    """
    if min(rows, columns, rank) < 1:
        raise UsageError(
            "matrix factorisation needs rows, columns and rank from 1; found "
            f"{rows}, {columns}, {rank}"
        )
    draw = generator(0, "matrix-factorisation")
    count = min(rows, columns)
    left, right = (
        torch.linalg.qr(torch.randn(size, count, dtype=torch.float64, generator=draw))[0]
        for size in (rows, columns)
    )
    values = 1 / torch.arange(1, count + 1, dtype=torch.float64)
    matrix = left @ torch.diag(values) @ right.T
    matrix *= (rows * columns / values.square().sum()).sqrt()  # entries of mean square 1
    minimum = float(values[rank:].square().sum() / values.square().sum())
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    entries = (places, matrix.flatten().float())

    def metric(model: nn.Module, batch: Entries) -> Tensor:
        return _errors(model, batch).double() - minimum

    return Workload(
        model=lambda: Factors(rows, columns, rank),
        train=entries,
        validation=entries,
        loss=lambda model, batch: _errors(model, batch).mean(),
        metric=metric,
        **FACTS,
    )


def _errors(model: nn.Module, batch: Entries) -> Tensor:
    places, values = batch
    return (model(places) - values).square()
