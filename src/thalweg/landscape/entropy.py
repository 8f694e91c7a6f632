"""Local entropy: how much of a neighbourhood has a low loss."""

import math
from dataclasses import dataclass

import torch

from thalweg.core.errors import UsageError
from thalweg.core.seeds import generator
from thalweg.landscape.objective import Objective


@dataclass(frozen=True)
class LocalEntropy:
    """A local entropy by random points.

    Attributes:
        value: the estimate; larger where the minimum is wide and low.
        error: its standard error, to first order.
        loss: the loss at the weights themselves; a flat neighbourhood has the value -loss.
        effective: how many points count, the squared sum of their weights over the sum of squares:
            few of many mean that the estimate is not to be trusted.
        points: how many were evaluated, without the weights themselves.
    """

    value: float
    error: float
    loss: float
    effective: float
    points: int


def local_entropy(
    objective: Objective, gamma: float, *, pairs: int = 32, seed: int = 0
) -> LocalEntropy:
    r"""Return :math:`\log E[\exp(-L(w + e))]` over normal e of variance :math:`1 / \gamma`.

    This is the local entropy :math:`\log \int \exp(-L(w') - \frac\gamma2 |w - w'|^2) dw'` without
    its constant :math:`\frac n2 \log(2 \pi / \gamma)`. Points come in pairs w + e and w - e, which
    takes the gradient's part out of the error. For a quadratic at its minimum it is
    :math:`-L - \frac12 \sum_i \log(1 + \lambda_i / \gamma)`. Baldassi et al., "Unreasonable
    Effectiveness of Learning Neural Networks", 2016; Chaudhari et al., "Entropy-SGD: Biasing
    Gradient Descent Into Wide Valleys", 2016, arXiv 1611.01838, who follow its gradient by
    Langevin dynamics and do not compute its value.

    Batch-norm statistics are the model's own at all points.

    Args:
        objective: the mean loss L.
        gamma: inverse variance of the neighbourhood, in units of the weights.
        pairs: of random points.
        seed: of the points.

    Raises:
        UsageError: an impossible argument.
    """
    if not (gamma > 0 and math.isfinite(gamma)) or pairs < 2:
        raise UsageError(
            f"local_entropy needs a positive, finite gamma and two pairs, found {gamma} and {pairs}"
        )
    random = generator(seed, "local entropy")
    direction = [torch.zeros_like(p) for p in objective.sound()]
    losses = []
    with objective.around([direction]) as loss_at:
        here = loss_at((0.0,))
        for _ in range(pairs):
            for d in direction:
                d.copy_(torch.randn(d.shape, generator=random, dtype=torch.float64) * gamma**-0.5)
            losses.append((loss_at((1.0,)), loss_at((-1.0,))))
    rows = torch.tensor(losses, dtype=torch.float64)
    least = rows.min()
    if not bool(least.isfinite()):  # a NaN among them, or no finite loss at all
        return LocalEntropy(float(-least), math.nan, here, math.nan, 2 * pairs)
    weights = torch.exp(least - rows)  # so that none overflows
    each = weights.mean(1)
    return LocalEntropy(
        value=float(each.mean().log() - least),
        error=float(each.std() / each.mean()) / math.sqrt(pairs),
        loss=here,
        effective=float(weights.sum() ** 2 / weights.square().sum()),
        points=2 * pairs,
    )
