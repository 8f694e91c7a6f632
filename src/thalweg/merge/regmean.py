"""RegMean: linear layers merged by regression."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from thalweg.core.checks import check_number
from thalweg.core.shares import check_weights, shares
from thalweg.merge.method import Merge, Piece, mean


@dataclass(frozen=True)
class RegMean(Merge):
    r"""Linear layers whose outputs are nearest to every model's on its own inputs.

    For a layer with weights :math:`W_i` (out, in) and the mean :math:`G_i = X_i^\top X_i / n_i` of
    its inputs' outer products in model i (`thalweg.merge.input_grams`),

    :math:`W^\top = (\sum_i c_i \tilde G_i)^{-1} \sum_i c_i \tilde G_i W_i^\top`,
    :math:`\tilde G = a G + (1 - a) diag(G)`. For a = 1 this minimises
    :math:`\sum_i c_i |X_i W^\top - X_i W_i^\top|^2 / n_i`. Everything without a Gram matrix
    (biases, norms, embeddings, heads that are left out) is the weighted mean. Jin, Ren,
    Preotiuc-Pietro & Cheng, "Dataless Knowledge Fusion by Merging Weights of Language Models",
    ICLR 2023, arXiv:2212.09849. Computed in float64, as a correction of the mean; directions that
    no input has keep the mean.

    Difference from the authors' code: its helper does not shrink unless told to, and several of
    its configurations take 0.1; the paper's default is 0.9.

    Args:
        shrink: a in [0, 1], the share of the off-diagonal entries.
        weights: :math:`c_i \ge 0`, one a model; equal unless given.

    Raises:
        UsageError: impossible settings.
    """

    shrink: float = 0.9
    weights: tuple[float, ...] | None = None
    needs_statistics: ClassVar[Literal["fisher", "gram"] | None] = "gram"
    reads: ClassVar[Literal["element", "tensor"]] = "tensor"

    def __post_init__(self) -> None:
        check_number("regmean: shrink", self.shrink, "[0, 1]")
        object.__setattr__(self, "weights", check_weights("weights", self.weights))

    def combine(self, piece: Piece, measured: None) -> Tensor:
        """Return the solution of the normal equations."""
        del measured
        plain = mean(piece.models, self.weights)
        if not piece.statistics:
            return plain
        size = len(piece.statistics[0])
        gram = torch.zeros(size, size, dtype=torch.float64)
        moved = torch.zeros(size, plain.shape[0], dtype=torch.float64)
        each = zip(
            piece.models, piece.statistics, shares(self.weights, len(piece.models)), strict=True
        )
        for w, statistic, share in each:
            g = statistic.double()
            g = (self.shrink * g + (1 - self.shrink) * torch.diag(g.diagonal())) * share
            gram += g
            moved += g @ (w - plain).double().mT
        return plain.add_(_solve(gram, moved).mT.to(plain.dtype))


def _solve(gram: Tensor, right: Tensor) -> Tensor:
    """Return the least-norm solution for a symmetric matrix that may be singular."""
    factor, failed = torch.linalg.cholesky_ex(gram)
    diagonal = factor.diagonal()
    if not failed and diagonal.min() > 1e-7 * diagonal.max():
        return torch.cholesky_solve(right, factor)
    values, vectors = torch.linalg.eigh(gram)
    kept = values > 1e-12 * values.abs().max()
    inverse = torch.where(kept, 1 / values.where(kept, torch.ones_like(values)), 0.0)
    return vectors @ (inverse[:, None] * (vectors.mT @ right))
