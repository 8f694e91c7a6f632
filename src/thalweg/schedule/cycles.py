"""Schedules that leave something to average: high and constant, or up and down in cycles."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from thalweg.core.checks import check_number, check_whole
from thalweg.core.cycles import Cycles, first_of
from thalweg.schedule.base import Schedule


@dataclass(frozen=True)
class SWAConstant(Schedule):
    r"""Down to a rate that stays: 1 for half of the way to ``start``, ``rate`` from 0.9 of it on.

    With :math:`s` the share of the way to update :math:`start \cdot T` that is done:
    1 for :math:`s \le 0.5`, :math:`1 - (1 - r) (s - 0.5) / 0.4` up to 0.9, and r after that. The
    schedule of the authors' code of Izmailov et al., "Averaging Weights Leads to Wider Optima and
    Better Generalization", UAI 2018, arXiv:1803.05407, to go with `thalweg.average.SWA` or
    `thalweg.average.SWAG` of the same ``start``. With ``before``, which takes the place of r up to
    ``start``, it is that of SWALP (Yang et al., 2019, arXiv:1904.11943): down to 0.01, then up.

    Args:
        start: where averaging starts, as a share of the run in (0, 1].
        rate: r, the factor that stays, in [0, 1].
        before: the factor to fall to before ``start``, in [0, 1]; r if None.

    Raises:
        UsageError: an impossible value.
    """

    start: float = 0.75
    rate: float = 0.5
    before: float | None = None

    def __post_init__(self) -> None:
        check_number("swa-constant: start", self.start, "(0, 1]")
        check_number("swa-constant: rate", self.rate, "[0, 1]")
        if self.before is not None:
            check_number("swa-constant: before", self.before, "[0, 1]")

    def _at(self, step: int, steps: int) -> float:
        done = step / first_of(self.start, steps)
        return _descent(done, self.rate if self.before is None or done >= 1 else self.before)


@dataclass(frozen=True)
class _InCycles(Schedule):
    """Down as `SWAConstant`, then in cycles, by a share of the way from ``high`` to ``low``."""

    _slug: ClassVar[str]

    start: float = 0.75
    cycles: int = 5
    high: float = 0.5
    low: float = 0.05

    def __post_init__(self) -> None:
        check_number(f"{self._slug}: start", self.start, "(0, 1]")
        check_whole(f"{self._slug}: cycles", self.cycles, least=1)
        check_number(f"{self._slug}: high", self.high, "[0, 1]")
        check_number(f"{self._slug}: low", self.low, "[0, 1]")

    def _at(self, step: int, steps: int) -> float:
        place = Cycles(self.start, self.cycles).place(step, steps)
        if place is None:
            return _descent(step / first_of(self.start, steps), self.high)
        share = self._share(*place)
        return (1 - share) * self.high + share * self.low

    @abstractmethod
    def _share(self, into: int, length: int) -> float:
        """Return the share for an update that so many of its cycle precede."""


@dataclass(frozen=True)
class SWACyclical(_InCycles):
    r"""Down as `SWAConstant`, then in cycles, each straight down from ``high`` to ``low``.

    The i-th of c updates of a cycle has the factor :math:`(1 - i/c) high + (i/c) low`, so that the
    last one, after which `thalweg.average.SWA` of the same ``start`` and ``cycles`` adds a point,
    has ``low``. Izmailov et al., "Averaging Weights Leads to Wider Optima and Better
    Generalization", UAI 2018, arXiv:1803.05407.

    Args:
        start: where the cycles start, as a share of the run in (0, 1].
        cycles: how many, at least 1.
        high: the factor from which each cycle falls, in [0, 1].
        low: the factor at its end, in [0, 1].

    Raises:
        UsageError: an impossible value.
    """

    _slug: ClassVar[str] = "swa-cyclical"

    def _at(self, step: int, steps: int) -> float:
        ended = step == steps > first_of(self.start, steps)
        return self.low if ended else super()._at(step, steps)

    def _share(self, into: int, length: int) -> float:
        return (into + 1) / length


@dataclass(frozen=True)
class Triangular(_InCycles):
    r"""Down as `SWAConstant`, then in cycles, each from ``high`` down to ``low`` and up again.

    With t in [0, 1) the share of the cycle that is done: :math:`(1 - 2t) high + 2t low` in its
    first half, :math:`(2t - 1) high + (2 - 2t) low` in its second. `thalweg.average.FGE` with this
    ``start`` and ``cycles`` takes its members in the middle. Garipov et al., "Loss Surfaces, Mode
    Connectivity, and Fast Ensembling of DNNs", NeurIPS 2018, arXiv:1802.10026.

    Args:
        start: where the cycles start, as a share of the run in (0, 1].
        cycles: how many, at least 1.
        high: the factor at the ends of a cycle, in [0, 1].
        low: the factor in its middle, in [0, 1].

    Raises:
        UsageError: an impossible value.
    """

    _slug: ClassVar[str] = "triangular"

    def _share(self, into: int, length: int) -> float:
        return 1 - abs(1 - 2 * into / length)


def _descent(done: float, to: float) -> float:
    """Return 1 while up to half is done, ``to`` from 0.9 on, and straight down between."""
    if done <= 0.5:
        return 1.0
    return to if done > 0.9 else 1 - (1 - to) * (done - 0.5) / 0.4
