"""The metric of a validation set from what the workload says of each batch."""

from typing import Any

import torch
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.workload.workload import Workload


class Tally:
    """Adds up a workload's metric, batch after batch, in float64.

    Without ``workload.combine`` it is the mean over the samples; with it, what that makes of the
    rows of all samples.
    """

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._total = 0.0
        self._count = 0
        self._rows: list[Tensor] = []

    def add(self, value: Any, samples: int) -> None:
        """Take in a batch.

        Args:
            value: what ``workload.metric`` returned: the mean over the batch, or a value per
                sample; with ``workload.combine`` a row per sample, (samples, ...).
            samples: how many samples the batch holds.

        Raises:
            UsageError: the value is none of these.
        """
        self._count += samples
        if self._workload.combine is None:
            self._total += self._sum(value, samples)
        elif isinstance(value, Tensor) and value.ndim and len(value) == samples:
            self._rows.append(value.cpu().double())  # not every device has float64
        else:
            raise UsageError(
                f"{self._workload.name}: with a function combine(rows), metric() must return a "
                f"row for each of the batch's {samples} samples; found {_describe(value)}"
            )

    def result(self) -> float:
        """Return the metric.

        Raises:
            UsageError: there was no batch, or ``combine`` returned something else than a number.
        """
        if self._count == 0:
            raise UsageError(f"{self._workload.name}: the validation data yield no batch")
        if self._workload.combine is None:
            return self._total / self._count
        value = self._workload.combine(torch.cat(self._rows))
        if isinstance(value, (int, float)) or (isinstance(value, Tensor) and value.numel() == 1):
            return float(value)
        raise UsageError(
            f"{self._workload.name}: combine() must return one number; found {_describe(value)}"
        )

    def _sum(self, value: Any, samples: int) -> float:
        if isinstance(value, (bool, int, float)):
            return float(value) * samples
        if isinstance(value, Tensor) and not value.is_complex():
            if value.numel() == 1:
                return float(value) * samples
            if value.shape == (samples,):
                return float(value.cpu().double().sum())
        raise UsageError(
            f"{self._workload.name}: metric() must return one number, or one for each of the "
            f"batch's {samples} samples; found {_describe(value)}"
        )


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and type {value.dtype}"
    return type(value).__name__
