"""What the settings of every average share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import nn

from thalweg.core.checks import check_choice
from thalweg.core.errors import UsageError

if TYPE_CHECKING:
    from thalweg.average.running import RunningAverage


@dataclass(frozen=True, kw_only=True)
class Average(ABC):
    """The settings of an average; ``attach(model)`` starts one along a run.

    Args:
        device: where the average is kept, such as ``"cpu"``; beside each weight unless given.
        precision: in which it is kept: ``"bfloat16"`` halves the memory (running averages are
            rounded stochastically, since a small step would vanish otherwise), ``"float32"`` or
            ``"float64"``. Unless given, that of each weight, and float32 for weights of 16 bits.

    Attributes:
        by_validation_loss: whether a running average has to be told the validation loss of the
            training weights after every evaluation (`RunningAverage.evaluated`).
        of_predictions: whether it may be the predictions of several points that are averaged
            (`RunningAverage.members`, `Ensemble`).

    Raises:
        UsageError: an impossible value.
    """

    by_validation_loss: ClassVar[bool] = False
    of_predictions: ClassVar[bool] = False

    device: str | None = None
    precision: Literal["bfloat16", "float32", "float64"] | None = None

    def __post_init__(self) -> None:
        if self.precision is not None:
            check_choice("average: precision", self.precision, ("bfloat16", "float32", "float64"))
        if self.device is not None:
            try:
                torch.device(self.device)
            except (RuntimeError, TypeError):
                raise UsageError(
                    f'average: device must be one of torch\'s, such as "cpu", found {self.device!r}'
                ) from None

    @abstractmethod
    def attach(self, model: nn.Module) -> "RunningAverage":
        """Return a running average along the training of a model."""


def interval(every: int | None, steps: int) -> int:
    """Return updates between two points: as given, or a hundredth of the run, at least 1."""
    return max(1, steps // 100) if every is None else every
