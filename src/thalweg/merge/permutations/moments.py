"""Mean and spread of units over data, exact however the data are cut into batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of each unit of a layer, over all samples and positions.

    Attributes:
        mean: (units,), float64.
        std: (units,), float64; of the population.
    """

    mean: Tensor
    std: Tensor


def mixed(moments: Sequence[Moments], weights: Sequence[float]) -> Moments:
    """Return the weighted sum of means and of standard deviations."""
    mean, std = (
        sum((w * x for w, x in zip(weights, each, strict=True)), _ZERO)
        for each in ([m.mean for m in moments], [m.std for m in moments])
    )
    return Moments(mean, std)


_ZERO = torch.zeros((), dtype=torch.float64)


class Sums:
    """Count, mean and squared distances from it, joined batch by batch; (units,) float64."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.squares = _ZERO

    def add(self, rows: Tensor) -> None:
        """Take in (values, units)."""
        rows = rows.detach().double()
        if not len(rows):
            return
        mean = rows.mean(0)
        squares = (rows - mean).square().sum(0)
        total = self.count + len(rows)
        apart = mean - self.mean
        self.squares = self.squares + squares + apart.square() * (self.count * len(rows) / total)
        self.mean = self.mean + apart * (len(rows) / total)
        self.count = total

    def moments(self) -> Moments:
        """Return the moments of all that was added."""
        return Moments(self.mean, (self.squares / self.count).sqrt())
