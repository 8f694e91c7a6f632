"""Power-function averages, and any other average of the run, afterwards, from their snapshots."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import nn

from thalweg.average.kept import Point, mean_of
from thalweg.average.running import RunningAverage
from thalweg.average.settings import Average
from thalweg.core.checks import check_number, check_whole
from thalweg.core.errors import UsageError

WIDEST = math.sqrt(1 / 12)
"""The relative width of the uniform mean, the largest there is."""

BINS = 16384  # of the iterates in which profiles are compared, if there are more iterates


@dataclass(frozen=True)
class PowerEMA(Average):
    r"""Averages whose weights grow by a power of time, with snapshots from which to make others.

    After n points the k-th weighs :math:`(k^{\gamma+1} - (k-1)^{\gamma+1}) / n^{\gamma+1}`, kept by
    :math:`v \leftarrow \beta_n v + (1 - \beta_n) w` with :math:`\beta_n = (1 - 1/n)^{\gamma+1}`.
    There are several at once, each given by its relative width :math:`\sigma_{rel}`, the
    standard deviation of its profile as a share of the run:
    :math:`\sigma_{rel}^2 = (\gamma+1) (\gamma+2)^{-2} (\gamma+3)^{-1}`. Evaluated is the first.

    `PowerAverage.reconstruct` makes the average of any other width, or of an exponential decay,
    at any time of the run: the combination of snapshots whose profile is nearest to it in least
    squares. Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models",
    CVPR 2024, arXiv:2312.02696. Beyond the paper, the combination sums to one, so that constant
    weights are reconstructed exactly. Float buffers are averaged as weights are.

    It keeps (snapshots + 1) times the number of widths times the model's memory.

    Args:
        widths: each a :math:`\sigma_{rel}` in (0, 0.288], 0.05 to 0.1 in the paper.
        snapshots: over the run, evenly spaced; at least 0.
        every: updates between two points, at least 1.
        device: see `Average`.
        precision: see `Average`.

    Raises:
        UsageError: an impossible value.
    """

    widths: tuple[float, ...] = (0.05, 0.1)
    snapshots: int = 16
    every: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        widths = self.widths if isinstance(self.widths, tuple | list) else (self.widths,)
        object.__setattr__(self, "widths", tuple(widths))
        if not widths:
            raise UsageError("power-ema: widths must hold one number at least, found none")
        for width in widths:
            check_number("power-ema: widths", width, f"(0, {WIDEST}]")
        check_whole("power-ema: snapshots", self.snapshots, least=0)
        check_whole("power-ema: every", self.every, least=1)

    def attach(self, model: nn.Module) -> "PowerAverage":
        """Return running averages that have no point yet."""
        return PowerAverage(self, model)


class PowerAverage(RunningAverage):
    """The running averages of `PowerEMA`."""

    needs_recalibration: ClassVar[bool] = False
    averages_buffers: ClassVar[bool] = True

    def __init__(self, settings: PowerEMA, model: nn.Module) -> None:
        super().__init__(settings, model)
        self._exponents = [exponent(width) for width in settings.widths]
        self.rows = tuple(f"snapshot{i}" for i in range(len(self._exponents)))
        for i in range(len(self._exponents)):
            self._points[f"average{i}"] = self._snapshot()

    def _update(self, step: int, steps: int) -> None:
        if (step + 1) % self.settings.every:
            return
        count = self.count + 1
        for i, gamma in enumerate(self._exponents):
            self._blend(f"average{i}", 1 - (1 - 1 / count) ** (gamma + 1), count + i * steps)
        self.count = count
        if self._is_snapshot(steps):
            for i in range(len(self._exponents)):
                self._points[f"snapshot{i}-{count}"] = self._copy(f"average{i}")

    def _is_snapshot(self, steps: int) -> bool:
        """Return whether the last point ends one of as many equal parts as there are snapshots."""
        points, snapshots = max(1, steps // self.settings.every), self.settings.snapshots
        return self.count * snapshots // points > (self.count - 1) * snapshots // points

    def _current(self) -> Point:
        return self._points["average0"]

    def reconstruct(
        self, *, width: float | None = None, decay: float | None = None, at: int | None = None
    ) -> tuple[Point, float]:
        r"""Return an average that was not kept, from the snapshots.

        Args:
            width: the :math:`\sigma_{rel}` of a power function; or
            decay: :math:`\beta` of an exponential average with bias correction.
            at: points of the run after which the average stands; all so far if None.

        Returns:
            Its weights by name, and the distance of the profile made to the one asked for, as a
            share of the latter's norm.

        Raises:
            UsageError: neither or both of width and decay, an impossible value, or no snapshot as
                early as that.
        """
        if (width is None) == (decay is None):
            raise UsageError(
                f"give the width of a power function or a decay, one of the two; found "
                f"width={width!r} and decay={decay!r}"
            )
        at = self.count if at is None else at
        check_whole("reconstruct: at", at, least=1)
        sources = self._sources(at)
        if not sources:
            raise UsageError(f"there is no snapshot of the first {at} points; ask for a later time")
        edges = np.unique(np.linspace(0, at, min(at, BINS) + 1).round())
        if width is not None:
            check_number("reconstruct: width", width, f"(0, {WIDEST}]")
            wanted = _power(edges, at, exponent(width))
        else:
            check_number("reconstruct: decay", decay, "(0, 1)")
            wanted = _exponential(edges, at, float(decay or 0.0))
        profiles = [_power(edges, time, gamma) for time, gamma, _ in sources]
        shares, error = _nearest(profiles, wanted, np.diff(edges))
        return mean_of([point for *_, point in sources], shares.tolist()), error

    def _sources(self, at: int) -> list[tuple[int, float, Point]]:
        found: list[tuple[int, float, Point]] = []
        for i, gamma in enumerate(self._exponents):
            times = {int(name.rpartition("-")[2]): name for name in self._row(f"snapshot{i}")}
            if self.count:
                times[self.count] = f"average{i}"
            found += [(t, gamma, self._points[name]) for t, name in times.items() if t <= at]
        return found


def exponent(width: float) -> float:
    r"""Return the :math:`\gamma \ge 0` of a relative width :math:`\sigma_{rel}`."""
    inverse = width**-2
    # (gamma + 2)^2 (gamma + 3) = (gamma + 1) / width^2
    roots = np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse])
    return max(0.0, float(roots.real.max()))


def _power(edges: np.ndarray, time: int, gamma: float) -> np.ndarray:
    """Return the shares of the bins in the power-function average after ``time`` points."""
    return np.diff(np.minimum(edges / time, 1.0) ** (gamma + 1))


def _exponential(edges: np.ndarray, time: int, decay: float) -> np.ndarray:
    """Return the shares of the bins in the bias-corrected exponential average."""
    logarithm = math.log(decay)
    upto = np.exp(logarithm * (time - edges)) - math.exp(logarithm * time)
    return np.diff(upto / -math.expm1(logarithm * time))


def _nearest(
    profiles: list[np.ndarray], wanted: np.ndarray, widths: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return shares, summing to one, of the profiles whose mix is nearest, and how far it is."""
    scale = 1 / np.sqrt(widths)
    columns = np.stack(profiles, 1) * scale[:, None]
    target = wanted * scale
    base = columns[:, -1:]
    rest, *_ = np.linalg.lstsq(columns[:, :-1] - base, target - base[:, 0], rcond=1e-12)
    shares = np.append(rest, 1 - rest.sum())
    error = float(np.linalg.norm(columns @ shares - target) / np.linalg.norm(target))
    return shares, error
