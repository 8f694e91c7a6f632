"""Averaging that a stalled validation loss triggers."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from thalweg.average.running import WeightedAverage
from thalweg.average.settings import Average
from thalweg.core.checks import check_whole
from thalweg.core.errors import UsageError


@dataclass(frozen=True)
class NTASGD(Average):
    r"""The mean of all iterates since the validation loss stopped falling.

    After each evaluation with loss :math:`v` of the training weights and the earlier losses
    :math:`l_1, ..., l_k`: if :math:`k > n` and :math:`v > \min(l_1, ..., l_{k-n})`, averaging
    starts with the next update; v joins the list. Until then the model is evaluated as it is.
    Merity, Keskar & Socher, "Regularizing and Optimizing LSTM Language Models", ICLR 2018,
    arXiv:1708.02182, with SGD of constant learning rate 30, clipped at 0.25, and an evaluation an
    epoch; the non-monotone interval n is 5. The mean is that of every iterate after the trigger;
    torch's ASGD, which the authors switch to, leaves out the first. Float buffers are averaged as
    weights are.

    Args:
        patience: n, evaluations, at least 1.
        device: see `Average`.
        precision: see `Average`.

    Raises:
        UsageError: an impossible value.
    """

    by_validation_loss: ClassVar[bool] = True

    patience: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("nt-asgd: patience", self.patience, least=1)

    def triggers(self, losses: list[float], loss: float) -> bool:
        """Return whether averaging starts at a loss that follows others."""
        earlier = losses[: len(losses) - self.patience]
        return len(losses) > self.patience and loss > min(earlier)

    def attach(self, model: nn.Module) -> WeightedAverage:
        """Return a running average that has no point yet."""
        return _TriggeredAverage(self, model)


class _TriggeredAverage(WeightedAverage):
    needs_recalibration: ClassVar[bool] = False
    averages_buffers: ClassVar[bool] = True

    def __init__(self, settings: NTASGD, model: nn.Module) -> None:
        super().__init__(settings, model)
        self._numbers.update(losses=[], triggered=[0.0])

    @property
    def monitors(self) -> bool:
        return not self._numbers["triggered"][0]

    def evaluated(self, loss: float) -> None:
        check_loss(loss)
        if self.monitors:
            triggered = self.settings.triggers(self._numbers["losses"], loss)
            self._numbers["triggered"] = [float(triggered)]
            self._numbers["losses"].append(loss)

    def _weight(self, step: int, steps: int) -> float | None:
        del step, steps
        return None if self.monitors else 1 / (self.count + 1)


def check_loss(loss: float) -> None:
    """Raise a `UsageError` unless a validation loss is a number."""
    if math.isnan(loss):
        raise UsageError("the average goes by the validation loss, found nan; the run has diverged")
