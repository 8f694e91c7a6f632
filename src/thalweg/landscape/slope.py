"""The gradient of an objective."""

import torch
from torch import Tensor

from thalweg.engine.one_vector import blank, vector
from thalweg.landscape.objective import Objective


def loss_and_gradient(objective: Objective) -> tuple[float, Tensor]:
    """Return the loss at the model's weights and its gradient, shape (n,).

    In the order of `Objective.trainable`, float32 at least.

    Raises:
        UsageError: no parameter is trainable.
    """
    with objective.differentiable():
        return slope_here(objective)


def slope_here(objective: Objective) -> tuple[float, Tensor]:
    """Return what `loss_and_gradient` does, inside `Objective.differentiable`."""
    params = objective.trainable()
    total, slope = 0.0, vector([blank(p) for p in params])
    for batch, size in zip(objective.batches, objective.sizes, strict=True):
        share = size / sum(objective.sizes)
        loss = objective.loss_of(batch)
        total += share * float(loss.detach())
        found = torch.autograd.grad(loss, params, materialize_grads=True)
        slope.add_(vector(found), alpha=share)
    return total, slope
