"""Power-function averages, and any other average of the run, afterwards, from their snapshots."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from thalweg.average.kept import Point, mean_of
from thalweg.average.profiles import WIDEST, exponent, mix
from thalweg.average.running import RunningAverage
from thalweg.average.settings import Average
from thalweg.average.snapshots import (
    Snapshot,
    Weights,
    check_snapshots,
    mark,
    saved_names,
    write_snapshot,
)
from thalweg.core.checks import check_number, check_whole
from thalweg.core.errors import UsageError
from thalweg.core.files import check_folder


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

    It keeps (snapshots + 1) times the number of widths times the model's memory; with a folder,
    the number of widths times, and every snapshot is a file in safetensors, from which
    ``thalweg average FOLDER --width ...`` makes averages after the run, tensor by tensor.

    Args:
        widths: each a :math:`\sigma_{rel}` in (0, 0.288], 0.05 to 0.1 in the paper.
        snapshots: over the run, evenly spaced; at least 0.
        every: updates between two points, at least 1.
        folder: for snapshots as files, one a run; in memory, and in the run's checkpoints, unless
            given. A run that goes on from a checkpoint, or starts over, writes the same files.
        device: see `Average`.
        precision: see `Average`.

    Raises:
        UsageError: an impossible value; at the first point, or the first after a checkpoint, a
            folder with snapshots of another run.
    """

    widths: tuple[float, ...] = (0.05, 0.1)
    snapshots: int = 16
    every: int = 1
    folder: str | os.PathLike[str] | None = None

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
        if self.folder is not None:
            if not isinstance(self.folder, str | os.PathLike):
                raise UsageError(f"power-ema: folder must be a path, found {self.folder!r}")
            check_folder(Path(self.folder))

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
        self._folder = None if settings.folder is None else Path(settings.folder)
        self._checked = False
        if self._folder is not None:
            self._numbers["run"] = []

    def _update(self, step: int, steps: int) -> None:
        if (step + 1) % self.settings.every:
            return
        count = self.count + 1
        for i, gamma in enumerate(self._exponents):
            self._blend(f"average{i}", 1 - (1 - 1 / count) ** (gamma + 1), count + i * steps)
        self.count = count
        if self._folder is not None and not self._checked:
            if not self._numbers["run"]:
                settings = self.settings
                known = f"{settings.widths} {settings.snapshots} {settings.every} {steps}"
                self._numbers["run"] = [mark(known, self._points["average0"])]
            check_snapshots(self._folder, self._run)
            self._checked = True
        if self._is_snapshot(steps):
            for i in range(len(self._exponents)):
                self._keep_snapshot(i)

    def _keep_snapshot(self, i: int) -> None:
        if self._folder is None:
            self._points[f"snapshot{i}-{self.count}"] = self._copy(f"average{i}")
            return
        file = self._folder / f"snapshot-{i}-{self.count:010d}.safetensors"
        every = self.settings.every
        snapshot = Snapshot(file, self.count, self._exponents[i], every, self._run)
        write_snapshot(snapshot, self._points[f"average{i}"], self._followed.model)

    @property
    def _run(self) -> str:
        return f"{int(self._numbers['run'][0]):012x}"

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
            Its weights by name (from files, those that the model's state dict holds, once each),
            and the distance of the profile made to the one asked for, as a
            share of the latter's norm.

        Raises:
            UsageError: neither or both of width and decay, an impossible value, or no snapshot as
                early as that.
        """
        at = self.count if at is None else at
        check_whole("reconstruct: at", at, least=1)
        sources = [source for source in self._sources() if source[0] <= at]
        shares, error = mix([source[:2] for source in sources], at, width=width, decay=decay)
        return mean_of([point for *_, point in sources], shares), error

    def _sources(self) -> list[tuple[int, float, Mapping[str, Tensor]]]:
        found: list[tuple[int, float, Mapping[str, Tensor]]] = []
        saved: list[str] | None = None
        if self._folder is not None and self.count:
            saved = saved_names(self._followed.model)
            found = [
                (one.points, one.exponent, Weights(one.file))
                for one in check_snapshots(self._folder, self._run)
                if one.points < self.count
            ]
        for i, gamma in enumerate(self._exponents):
            times = {int(name.rpartition("-")[2]): name for name in self._row(f"snapshot{i}")}
            if self.count:
                times[self.count] = f"average{i}"
            for time, name in times.items():
                point = self._points[name]
                point = point if saved is None else {n: point[n] for n in saved}
                found.append((time, gamma, point))
        return found
