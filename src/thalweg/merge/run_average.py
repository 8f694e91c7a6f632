"""The average of checkpoints of one run, as a merge."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.core.shares import check_weights
from thalweg.merge.method import Merge, Piece, mean


@dataclass(frozen=True)
class RunAverage(Merge):
    r"""A combination of points of one run: :math:`w = \sum_i \alpha_i w_i / \sum_i \alpha_i`.

    Unlike a soup's, shares may be negative, as in post-hoc exponential averages, and batch-norm
    statistics are combined like weights; of whole numbers, such as counters, the last point's are
    taken.

    Args:
        weights: :math:`\alpha_i`, one a point in the order of the run; equal unless given.

    Raises:
        UsageError: impossible weights.
    """

    whole: ClassVar[Literal["same", "last"]] = "last"

    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        found = check_weights("weights", self.weights, signed=True)
        if found is not None and not sum(found) > 0:
            raise UsageError(f"weights must have a sum above 0, found {self.weights!r}")
        object.__setattr__(self, "weights", found)

    def plain_weights(self) -> tuple[float, ...] | None:
        """Return the same weights."""
        return self.weights

    def combine(self, piece: Piece, measured: None) -> Tensor:
        """Return the combination."""
        del measured
        return mean(piece.models, self.weights)


def exponential(decay: float, count: int) -> tuple[float, ...]:
    r"""Return what points weigh in a bias-corrected exponential average: :math:`\beta^{n - i}`."""
    return tuple(decay ** (count - 1 - i) for i in range(count))
