"""Fisher-weighted merging."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from thalweg.core.checks import check_flag, check_number
from thalweg.core.shares import check_weights, shares
from thalweg.merge.method import Measure, Merge, Piece, mean


@dataclass(frozen=True)
class FisherMerge(Merge):
    r"""The mean in which each entry of a model weighs as much as its Fisher information.

    :math:`w = \sum_i \lambda_i F_i \odot w_i / \sum_i \lambda_i F_i` with diagonal Fisher matrices
    :math:`F_i` (`thalweg.merge.fisher_diagonal`): the mode of the product of Gaussian posteriors
    of the models. When to use: fine-tuned models of unequal tasks or amounts of data. Matena &
    Raffel, "Merging Models with Fisher-Weighted Averaging", NeurIPS 2022, arXiv:2111.09832.

    Where no model has information (and for tensors without a Fisher, such as buffers), the entry
    is the :math:`\lambda`-weighted mean. Difference from the authors' code: that raises the first
    model's Fisher to at least 1e-6, so such entries are the first model's; ``floor=1e-6`` does so.

    Args:
        weights: :math:`\lambda_i \ge 0`, one a model; equal unless given.
        normalise: whether each Fisher is divided by its norm over the whole model first, so that
            one of a larger scale does not outvote the rest.
        floor: least Fisher information of the first model's entries, after that division.

    Raises:
        UsageError: impossible settings.
    """

    weights: tuple[float, ...] | None = None
    normalise: bool = True
    floor: float = 0.0
    needs_statistics: ClassVar[Literal["fisher", "gram"] | None] = "fisher"
    scope: ClassVar[Literal["tensor", "global"]] = "global"
    measures: ClassVar[Literal["models", "statistics"]] = "statistics"

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", check_weights("weights", self.weights))
        check_flag("fisher-merge: normalise", self.normalise)
        check_number("fisher-merge: floor", self.floor, "[0, inf)")

    def measure(self, count: int) -> Measure | None:
        """Return what measures the norms of the Fishers."""
        return _Norms(count) if self.normalise else None

    def combine(self, piece: Piece, measured: "_Norms | None") -> Tensor:
        """Return the Fisher-weighted mean."""
        plain = mean(piece.models, self.weights)
        if not piece.statistics:
            return plain
        total = torch.zeros_like(plain)
        # Around the plain mean, so that equal models come out to the bit.
        moved = torch.zeros_like(plain)
        each = zip(
            piece.models, piece.statistics, shares(self.weights, len(piece.models)), strict=True
        )
        for i, (w, fisher, share) in enumerate(each):
            scaled = fisher * (1 / measured.norm(i) if measured else 1.0)
            if i == 0 and self.floor:
                scaled.clamp_(min=self.floor)
            total.add_(scaled, alpha=share)
            moved.addcmul_(scaled, w - plain, value=share)
        return plain.add_(moved.div_(total.masked_fill_(total == 0, 1)))


class _Norms(Measure):
    def __init__(self, count: int) -> None:
        self._squares = [0.0] * count

    def add(self, turn: int, piece: Piece) -> None:
        del turn
        for i, fisher in enumerate(piece.statistics):
            self._squares[i] += fisher.double().square().sum().item()

    def norm(self, i: int) -> float:
        return math.sqrt(self._squares[i]) or 1.0
