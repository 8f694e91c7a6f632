"""`saddle`: a start beside a saddle point, which gradients hardly show."""

from typing import Any

import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.workload.workload import Workload

FACTS: dict[str, Any] = {
    "name": "saddle",
    "title": "Saddle point",
    "description": "The minimum of (y^2 - 1)^2 / 4, summed over 5 coordinates y, plus x^2 / 2, "
    "summed over 15 coordinates x, from a start beside the saddle at zero.",
    "architecture": "One vector of 20 parameters: x random, y random and 10,000 times smaller.",
    "loss_name": "sum of (y^2 - 1)^2 / 4 + sum of x^2 / 2",
    "metric_name": "loss above the minimum",
    "higher_is_better": False,
    "batch_size": 1,
    "steps": 200,
    "evaluate_every": 10,
    "data_source": "none",
    "licence": "none needed",
}


class Saddle(nn.Module):
    r"""The loss :math:`\tfrac14 \sum_i (y_i^2 - 1)^2 + \tfrac12 \sum_j x_j^2`.

    At zero the gradient vanishes and the Hessian has the eigenvalue -1 in each y and 1 in each x;
    the minima, of value 0, are where every y is 1 or -1 and every x is 0. The Hessian at zero and
    the distance from it decide how long an escape takes (Dauphin et al., "Identifying and
    attacking the saddle point problem in high-dimensional non-convex optimization", 2014).
    """

    def __init__(self, down: int, up: int, distance: float) -> None:
        super().__init__()
        self.down = down
        start = torch.randn(down + up)
        start[:down] *= distance
        self.x = nn.Parameter(start)

    def forward(self) -> Tensor:
        """Return the loss, 0-d."""
        y, x = self.x[: self.down], self.x[self.down :]
        return 0.25 * (y.square() - 1).square().sum() + 0.5 * x.square().sum()


def saddle(down: int = 5, up: int = 15, distance: float = 1e-4) -> Workload:
    """Return the workload.

    Args:
        down: directions in which the saddle falls off, from 1.
        up: directions in which it rises, from 0.
        distance: standard deviation of the start from the saddle where it falls off.

    Raises:
        UsageError: a number is out of range.
    """
    if down < 1 or up < 0 or not distance > 0:
        raise UsageError(
            f"the saddle needs down >= 1, up >= 0 and distance > 0; found {down}, {up}, {distance}"
        )
    nothing = torch.zeros(1, 1)
    return Workload(
        model=lambda: Saddle(down, up, distance),
        train=nothing,
        validation=nothing,
        loss=lambda model, batch: model(),
        metric=lambda model, batch: model(),
        **FACTS,
    )
