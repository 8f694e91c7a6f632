"""Task arithmetic."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from thalweg.core.checks import check_number
from thalweg.core.shares import check_weights
from thalweg.merge.method import Merge, Piece


@dataclass(frozen=True)
class TaskArithmetic(Merge):
    r"""The base plus a multiple of the sum of the task vectors.

    :math:`w = w_0 + \lambda \sum_t \alpha_t (w_t - w_0)`, a negative :math:`\alpha_t` unlearns a
    task. With :math:`\lambda` one over the number of models it is their mean. The paper chooses
    :math:`\lambda` on held-out data (0.3 to 0.4 for many tasks). Ilharco et al., "Editing Models
    with Task Arithmetic", ICLR 2023, arXiv:2212.04089.

    Args:
        scale: :math:`\lambda`.
        weights: :math:`\alpha_t`, one a model; 1 unless given.

    Raises:
        UsageError: impossible settings.
    """

    scale: float = 1.0
    weights: tuple[float, ...] | None = None
    needs_base: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_number("task-arithmetic: scale", self.scale, "(-inf, inf)")
        object.__setattr__(self, "weights", check_weights("weights", self.weights, signed=True))

    def combine(self, piece: Piece, measured: None) -> Tensor:
        """Return the base plus the scaled sum."""
        del measured
        assert piece.base is not None
        weights = self.weights or (1.0,) * len(piece.models)
        result = piece.base.clone()
        for delta, weight in zip(piece.deltas, weights, strict=True):
            result.add_(delta, alpha=self.scale * weight)
        return result
