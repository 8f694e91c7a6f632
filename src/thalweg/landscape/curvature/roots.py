"""Roots of the loss's Hessian by the outputs, sample by sample."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.landscape.curvature.operators import Likelihood, likelihood_loss
from thalweg.landscape.objective import Objective


@dataclass(frozen=True)
class Roots:
    r"""The outputs of one batch with :math:`Q_i = U_i \mathrm{diag}(\lambda_i) U_i^\top`.

    :math:`Q_i` is the Hessian of sample i's loss by its c outputs (all positions of it).

    Attributes:
        outputs: the model's outputs with their graph, samples first.
        values: :math:`\lambda_i`, shape (samples, c), float32 at least; rounding below zero is 0.
        vectors: :math:`U_i` in columns, shape (samples, c, c).
    """

    outputs: Tensor
    values: Tensor
    vectors: Tensor

    def columns(self, draws: int | None, random: torch.Generator) -> Iterator[tuple[Tensor, float]]:
        r"""Yield vectors v like the outputs, and weights, so that Q is the sum of weight v v'.

        Args:
            draws: how many :math:`v_i = U_i \sqrt{\lambda_i} \epsilon_i` to draw, with random
                signs :math:`\epsilon_i`, for which the sum is Q on average; ``None`` yields the c
                columns of the root, for which it is Q.
            random: draws the signs.

        Raises:
            UsageError: a random root of a matrix that is not positive semidefinite.
        """
        if draws is None:
            for j in range(self.values.shape[1]):
                weight = self.values[:, j, None]
                # The sign goes with the weight, so that losses may be concave in places.
                for sign in (1.0, -1.0):
                    part = (sign * weight).clamp(min=0).sqrt()
                    if bool((part > 0).any()):
                        yield self._shaped(part * self.vectors[:, :, j]), sign
            return
        if bool((self.values < 0).any()):
            raise UsageError(
                "the loss is not convex in the model's outputs, so its Gauss-Newton matrix has no "
                "random root; take the exact one (draws=None)"
            )
        for _ in range(draws):
            signs = 2 * torch.randint(2, self.values.shape, generator=random) - 1
            scaled = self.values.sqrt() * signs.to(self.values)
            yield self._shaped((self.vectors @ scaled.unsqueeze(-1)).squeeze(-1)), 1 / draws

    def _shaped(self, v: Tensor) -> Tensor:
        return v.reshape(self.outputs.shape).to(self.outputs.dtype)


def roots(objective: Objective, index: int, likelihood: Likelihood | None = None) -> Roots:
    """Return the outputs of one batch and the roots; call it inside `Objective.differentiable`.

    Args:
        objective: the mean loss, in which samples do not depend on each other.
        index: of the batch.
        likelihood: takes the Fisher matrix by the outputs in place of the loss's Hessian.

    Raises:
        UsageError: outputs whose first dimension does not count the batch's samples.
    """
    objective.sound()
    size = objective.sizes[index]
    loss, outputs = objective.loss_and_outputs(objective.batches[index])
    if outputs.ndim == 0 or len(outputs) != size:
        raise UsageError(
            "the outputs' first dimension must count the batch's samples; found the shape "
            f"{tuple(outputs.shape)} among {size} samples"
        )
    total = loss * size if likelihood is None else likelihood_loss(outputs, likelihood)
    (slope,) = torch.autograd.grad(total, outputs, create_graph=True, materialize_grads=True)
    flat = slope.reshape(size, -1)
    # Samples are independent, so a sum over them gives a row of every sample's matrix at once.
    rows = []
    for j in range(flat.shape[1]):
        if flat.requires_grad:
            (row,) = torch.autograd.grad(
                flat[:, j].sum(), outputs, retain_graph=True, materialize_grads=True
            )
        else:
            row = torch.zeros_like(outputs)
        rows.append(row.detach().reshape(size, -1))
    q = torch.stack(rows, 1)
    q = q if q.dtype == torch.float64 else q.float()
    values, vectors = torch.linalg.eigh((q + q.mT) / 2)
    rounding = 10 * torch.finfo(q.dtype).eps * q.shape[1] * values.abs().amax(1, keepdim=True)
    return Roots(outputs, torch.where(values.abs() <= rounding, 0, values), vectors)
