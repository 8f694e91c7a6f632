"""Diagonals of curvature matrices, exactly or by few draws."""

import torch
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.core.seeds import generator
from thalweg.landscape.curvature.operators import Likelihood, check_likelihood
from thalweg.landscape.curvature.roots import roots
from thalweg.landscape.curvature.samples import chunks
from thalweg.landscape.objective import Objective


def gauss_newton_diagonal(
    objective: Objective,
    *,
    draws: int | None = None,
    likelihood: Likelihood | None = None,
    seed: int = 0,
) -> Tensor:
    r"""Return the diagonal of the generalised Gauss-Newton matrix, shape (n,), float64.

    :math:`\frac1N \sum_i \sum_c (J_i^\top s_{ic})^2` with :math:`Q_i = \sum_c s_{ic} s_{ic}^\top`
    the Hessian of sample i's loss by its outputs. It reads every sample's gradient c times, c the
    outputs of a sample (classes times positions); with ``draws`` it reads them so many times, for
    random combinations :math:`\sum_c \pm s_{ic}`, and is right on average. Dangel, Kunstner &
    Hennig, "BackPACK: Packing more into Backprop", 2020, arXiv 1912.10985, whose draws are labels;
    signs have less variance and serve every convex loss.

    Samples must not depend on each other, which evaluation mode sees to.

    Args:
        objective: the loss.
        draws: how many random combinations; all of the matrix unless given.
        likelihood: gives the diagonal of the Fisher matrix of this likelihood instead; see
            `Fisher`.
        seed: of the draws.

    Raises:
        UsageError: no draw, an unknown likelihood, outputs that do not count samples first, or
            draws for a loss that is not convex in the outputs.
    """
    if likelihood is not None:
        check_likelihood(likelihood)
    if draws is not None and draws < 1:
        raise UsageError(f"a diagonal needs one draw at least, found {draws}")
    random = generator(seed, "diagonal", "gauss-newton")
    total = torch.zeros((), dtype=torch.float64)
    for index, size in enumerate(objective.sizes):
        with objective.differentiable():
            found = roots(objective, index, likelihood)
            columns = [(v.detach(), sign) for v, sign in found.columns(draws, random)]

        def along(_: object, pair: tuple[object, Tensor]) -> Tensor:
            return (objective.loss_and_outputs(pair[0])[1] * pair[1]).sum()

        for column, weight in columns:
            for rows in chunks(objective, (objective.batches[index], column), size, along):
                total = total + weight * rows.double().square().sum(0)
    n = sum(p.numel() for p in objective.trainable())
    return (total / sum(objective.sizes)).expand(n).clone()


def empirical_fisher_diagonal(objective: Objective) -> Tensor:
    r"""Return the mean of :math:`g_i^2` over samples' gradients, shape (n,), float64.

    The diagonal of `EmpiricalFisher`; see there for what it is not.

    Raises:
        UsageError: as `sample_gradients`.
    """
    total = torch.zeros((), dtype=torch.float64)
    for batch, size in zip(objective.batches, objective.sizes, strict=True):
        for rows in chunks(objective, batch, size):
            total = total + rows.double().square().sum(0)
    return total / sum(objective.sizes)
