"""`rosenbrock`: a curved valley that is quick to find and slow to follow."""

from typing import Any

import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.workload.workload import Workload

FACTS: dict[str, Any] = {
    "name": "rosenbrock",
    "title": "Rosenbrock's valley",
    "description": "The minimum of 100 (y - x^2)^2 + (1 - x)^2, at (1, 1), from (-1.2, 1).",
    "architecture": "A point: 2 parameters.",
    "loss_name": "Rosenbrock's function",
    "metric_name": "distance to the minimum",
    "higher_is_better": False,
    "batch_size": 1,
    "steps": 1000,
    "evaluate_every": 50,
    "data_source": "none; the function is that of Rosenbrock, 1960",
    "licence": "none needed",
}


class Valley(nn.Module):
    r"""The loss :math:`\sum_{i<d} 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2`.

    H. H. Rosenbrock, "An automatic method for finding the greatest or least value of a function",
    1960, and its usual chain to more dimensions. The minimum is 0, where every coordinate is 1.
    """

    def __init__(self, dimension: int, dtype: torch.dtype) -> None:
        super().__init__()
        start = torch.ones(dimension, dtype=dtype)
        start[::2] = -1.2
        self.x = nn.Parameter(start)

    def forward(self) -> Tensor:
        """Return the loss, 0-d."""
        before, after = self.x[:-1], self.x[1:]
        return (100 * (after - before.square()).square() + (1 - before).square()).sum()


def rosenbrock(dimension: int = 2, dtype: torch.dtype = torch.float32) -> Workload:
    """Return the workload.

    Args:
        dimension: the number of parameters, from 2. From 4 on there is a second, local minimum.
        dtype: of the parameters.

    Raises:
        UsageError: the dimension is less than 2.
    """
    if dimension < 2:
        raise UsageError(f"Rosenbrock's valley needs dimension >= 2; found {dimension}")
    nothing = torch.zeros(1, 1)
    return Workload(
        model=lambda: Valley(dimension, dtype),
        train=nothing,
        validation=nothing,
        loss=lambda model, batch: model(),
        metric=_distance,
        **FACTS,
    )


def _distance(model: nn.Module, batch: Tensor) -> Tensor:
    del batch
    x: Any = model.x
    return (x.double() - 1).norm()
