"""Polyak-Ruppert averaging: uniform, weighted and of the last part of a run."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from thalweg.average.running import WeightedAverage
from thalweg.average.settings import Average
from thalweg.core.checks import check_number, check_whole
from thalweg.core.cycles import is_due


@dataclass(frozen=True)
class Polyak(Average):
    r"""The mean of the iterates, uniform or weighted by a power of time, all or the last ones.

    Of the points :math:`w_1, ..., w_n` it is :math:`\sum_k k^p w_k / \sum_k k^p`, kept by
    :math:`\bar w \leftarrow \bar w + (w - \bar w) k^p / \sum_{i \le k} i^p`. With :math:`p = 0` it
    is the mean of Polyak & Juditsky, "Acceleration of Stochastic Approximation by Averaging",
    SIAM J. Control Optim. 1992, and of Ruppert, 1988; with :math:`p = 1` that of Lacoste-Julien,
    Schmidt & Bach, 2012, arXiv:1212.2002; with ``start`` above 0 the suffix mean of Rakhlin, Shamir
    & Sridharan, 2012, arXiv:1109.5647. When to use: with a learning rate that stays high, on noisy
    problems. torch's ASGD takes the mean of iterates 2 to n; this is that of 1 to n, as published.
    Float buffers (batch-norm statistics) are averaged as weights are, integer buffers copied.

    Args:
        start: where averaging starts, as a share of the run in [0, 1].
        power: :math:`p \ge 0`.
        every: updates between two points, at least 1.
        device: see `Average`.
        precision: see `Average`.

    Raises:
        UsageError: an impossible value.
    """

    start: float = 0.0
    power: float = 0.0
    every: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("polyak: start", self.start, "[0, 1]")
        check_number("polyak: power", self.power, "[0, inf)")
        check_whole("polyak: every", self.every, least=1)

    def attach(self, model: nn.Module) -> WeightedAverage:
        """Return a running average that has no point yet."""
        return _PolyakAverage(self, model)


class _PolyakAverage(WeightedAverage):
    needs_recalibration: ClassVar[bool] = False
    averages_buffers: ClassVar[bool] = True

    def __init__(self, settings: Polyak, model: nn.Module) -> None:
        super().__init__(settings, model)
        self._numbers["total"] = [0.0]

    def _weight(self, step: int, steps: int) -> float | None:
        if not is_due(step, steps, self.settings.start, self.settings.every):
            return None
        mass = float(self.count + 1) ** self.settings.power
        self._numbers["total"][0] += mass
        return mass / self._numbers["total"][0]
