"""Trainable weight averaging: the coefficients of the average are trained."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from thalweg.average.kept import Point, mean_of
from thalweg.average.running import RunningAverage
from thalweg.average.settings import Average
from thalweg.core.checks import check_number, check_whole
from thalweg.core.cycles import first_of
from thalweg.core.errors import UsageError
from thalweg.engine.distributed import is_distributed


@dataclass(frozen=True)
class TWA(Average):
    r"""Training in the span of earlier weights, from their mean on.

    Until update :math:`t_0 = \lceil start \cdot T \rceil`, n points are copied, evenly spaced
    from ``collect`` of the run on. Then the weights become their mean, and from there on stay in
    their span: with orthonormal rows P of it (Gram-Schmidt, twice), every update ends with
    :math:`w \leftarrow P^T P w`. For rules that are linear in the gradient, such as SGD with
    momentum and weight decay, this is the same as projecting every gradient,
    :math:`g \leftarrow P^T P g`, which is the paper's rule. So the coefficients of the average are
    trained; with learning rate 0 the mean stays. Li et al., "Trainable Weight Averaging: Efficient
    Training by Optimizing Historical Solutions", ICLR 2023 (openreview 8wbnpOJY-f), who start a
    new optimiser for it; here momentum gathered before goes on. Batch-norm statistics are those
    that training in the span leaves.

    It keeps n times the model's memory, and each update in the span reads it twice.

    Args:
        start: where training in the span starts, as a share of the run in [0, 1].
        collect: where the points start, as a share of the run, at most ``start``.
        points: n, at least 1; as many as there are updates, if those are fewer.
        device: see `Average`.
        precision: see `Average`.

    Raises:
        UsageError: an impossible value.
    """

    start: float = 0.75
    collect: float = 0.25
    points: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("twa: start", self.start, "[0, 1]")
        check_number("twa: collect", self.collect, "[0, 1]")
        check_whole("twa: points", self.points, least=1)
        if self.collect > self.start:
            raise UsageError(
                f"twa: collect must be at most start, found {self.collect} and {self.start}"
            )

    def collects(self, step: int, steps: int) -> bool:
        """Return whether a point is taken after a step, counted from 0."""
        last, first = first_of(self.start, steps), first_of(self.collect, steps)
        span = last - first + 1
        n, into = min(self.points, span), step + 1 - first
        if not 0 <= into < span:
            return False
        # The points are the last of n equal parts, so that one falls on the start.
        return (into + 1) * n // span > into * n // span

    def attach(self, model: nn.Module) -> "TrainedAverage":
        """Return an average that has no point yet, and will change the model's weights."""
        return TrainedAverage(self, model)


class TrainedAverage(RunningAverage):
    """The running average of `TWA`."""

    needs_recalibration: ClassVar[bool] = False
    averages_buffers: ClassVar[bool] = False
    writes_back: ClassVar[bool] = True
    rows = ("point", "row")

    def __init__(self, settings: TWA, model: nn.Module) -> None:
        super().__init__(settings, model)
        self._rows: dict[str, Tensor] = {}
        self._rows_of: Point | None = None
        for name, x in self._now().items():
            if not x.is_floating_point():
                raise UsageError(f'twa takes real weights, and "{name}" is {x.dtype}')
            if is_distributed(x):
                raise UsageError(
                    f'twa takes whole weights, and "{name}" is spread over processes; use DDP'
                )

    def _update(self, step: int, steps: int) -> None:
        if self.settings.collects(step, steps):
            self._points[f"point-{self.count}"] = self._snapshot()
            self.count += 1
        done, first = step + 1, first_of(self.settings.start, steps)
        if done == first:
            self._begin()
        elif done > first and self._row("row"):
            self._project()

    def _current(self) -> None:
        return None  # the model is in the span itself

    def coefficients(self) -> list[float]:
        """Return the coordinates of the model's weights along the orthonormal rows.

        Raises:
            UsageError: training in the span has not begun.
        """
        if not self._row("row"):
            raise UsageError("training in the span has not begun; there are no coefficients yet")
        return self._coordinates(self._stacked(), self._now()).tolist()

    def _begin(self) -> None:
        names = self._row("point")
        points = [self._points.pop(name) for name in names]
        mean = mean_of(points)
        rows = _orthonormal(points)
        self._points.update({f"row-{i}": row for i, row in enumerate(rows)})
        self._write(mean)
        self._rows = {}

    def _project(self) -> None:
        rows, now = self._stacked(), self._now()
        c = self._coordinates(rows, now)
        for name, x in now.items():
            stack = rows[name]
            x.copy_((c.to(stack.dtype) @ stack).view(x.shape))

    def _coordinates(self, rows: dict[str, Tensor], now: Point) -> Tensor:
        parts = []
        for name, x in now.items():
            stack = rows[name]
            parts.append((stack @ x.detach().to(stack.device, stack.dtype).reshape(-1)).double())
        return torch.stack(parts).sum(0)

    def _stacked(self) -> dict[str, Tensor]:
        """Return the rows of each tensor as one matrix, of which the points are views."""
        if not self._rows or self._rows_of is not self._points["row-0"]:
            names = self._row("row")
            for name in self._now():
                first = self._points[names[0]][name]
                dtype = torch.promote_types(first.dtype, torch.float32)
                stack = torch.stack([self._points[row][name].reshape(-1) for row in names])
                self._rows[name] = stack.to(dtype)
                for i, row in enumerate(names):
                    if dtype == first.dtype:
                        self._points[row][name] = self._rows[name][i].view(first.shape)
            self._rows_of = self._points["row-0"]
        return self._rows


def _orthonormal(points: list[Point]) -> list[Point]:
    """Return orthonormal vectors that span what the points span; points are overwritten."""
    rows: list[Point] = []
    for point in points:
        size = _dot(point, point) ** 0.5
        for _ in range(2):  # once more, against what rounding left
            for row in rows:
                share = _dot(row, point)
                for name, x in point.items():
                    x.sub_(row[name], alpha=share)
        norm = _dot(point, point) ** 0.5
        if norm <= 1e-6 * size:
            continue  # spanned already
        for x in point.values():
            x.div_(norm)
        rows.append(point)
    return rows


def _dot(one: Point, other: Point) -> float:
    parts = [
        torch.dot(one[name].reshape(-1).double(), other[name].reshape(-1).double()) for name in one
    ]
    return float(torch.stack(parts).sum())
