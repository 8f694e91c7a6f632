"""Variance-corrected averaging."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.merge.method import Measure, Piece, mean
from thalweg.merge.soup import UniformSoup


@dataclass(frozen=True)
class VarianceCorrected(UniformSoup):
    r"""The mean, its deviations rescaled to the variance that the models have.

    For each tensor of two dimensions or more, with :math:`\bar w` the weighted mean of the models
    and :math:`m` the mean of its entries,

    :math:`w = m + (\bar w - m) \sqrt{\sum_i \alpha_i Var(w_i) / Var(\bar w)}`, shares
    :math:`\alpha_i`, variances over a tensor's entries. The mean of n independent layers has an
    n-th of their variance, which stalls gossip learning at its start; this keeps it. Biases and
    norms are averaged plainly, and so is a tensor whose mean has no variance. Tian, Al-Ars, Kitsak
    & Hofstee, "Vanishing Variance Problem in Fully Decentralized Neural-Network Systems", 2024,
    arXiv:2404.04616; no code was released, and the treatment of biases is our reading.

    Args:
        weights: :math:`\alpha_i \ge 0`, one a model; equal unless given.

    Raises:
        UsageError: impossible weights.
    """

    def measure(self, count: int) -> Measure:
        """Return what measures the variances."""
        return _Variances(count, self.weights)

    def combine(self, piece: Piece, measured: "_Variances") -> Tensor:
        """Return the mean with its deviations rescaled."""
        averaged = mean(piece.models, self.weights)
        if len(piece.shape) < 2:
            return averaged
        centre, factor = measured.centre, measured.factor()
        return averaged.sub_(centre).mul_(factor).add_(centre)


class _Variances(Measure):
    passes = 2

    def __init__(self, count: int, weights: tuple[float, ...] | None) -> None:
        self._weights = weights
        self._size = 0
        self._sums = torch.zeros(count + 1, dtype=torch.float64)
        self._squares = torch.zeros(count + 1, dtype=torch.float64)

    @property
    def centre(self) -> float:
        return (self._sums[-1] / self._size).item()

    def add(self, turn: int, piece: Piece) -> None:
        averaged = mean(piece.models, self._weights)
        rows = torch.stack([x.flatten().double() for x in (*piece.models, averaged)]).cpu()
        if turn == 0:
            self._size += rows.shape[1]
            self._sums += rows.sum(1)
        else:
            self._squares += (rows - (self._sums / self._size)[:, None]).square().sum(1)

    def factor(self) -> float:
        *each, averaged = self._squares.tolist()
        if averaged == 0:
            return 1.0
        each = torch.tensor(each, dtype=torch.float64)
        weights = self._weights or (1.0,) * len(each)
        wanted = float(each @ torch.tensor(weights, dtype=torch.float64)) / math.fsum(weights)
        return math.sqrt(wanted / averaged)
