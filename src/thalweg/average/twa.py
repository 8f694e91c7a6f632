"""Trainable weight averaging: the coefficients of the average are trained."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from thalweg.average.kept import Point, check_not_sharded, is_frozen, mean_of
from thalweg.average.running import RunningAverage
from thalweg.average.settings import Average
from thalweg.core.checks import check_number, check_whole
from thalweg.core.cycles import first_of
from thalweg.core.errors import UsageError
from thalweg.engine.numeric import wide

_COLUMNS = 1 << 20  # entries of the rows that are taken to float64 at once


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
    new optimiser for it; here momentum gathered before goes on. Parameters that are frozen where it
    starts stay as they are. Batch-norm statistics are those that training in the span leaves.

    It keeps n times the model's memory, and each update in the span reads it twice.

    Args:
        start: where training in the span starts, as a share of the run in [0, 1].
        collect: where the points start, as a share of the run, at most ``start``.
        points: n, at least 1; as many as there are updates, if those are fewer.
        device: see `Average`.
        precision: see `Average`.

    Raises:
        UsageError: an impossible value; when it is attached, complex weights, or a model that is
            sharded over processes.
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
        self._numbers["frozen"] = []  # which tensors, by their place, are not trained in the span
        self._stacks: dict[str, Tensor] = {}
        self._inverse = torch.empty(0)
        now = self._now()
        check_not_sharded("twa", now)
        for name, x in now.items():
            if not x.is_floating_point():
                raise UsageError(f'twa takes real weights, and "{name}" is {x.dtype}')

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

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` returned; see `RunningAverage.load_state_dict`."""
        super().load_state_dict(state_dict)
        self._stacks = {}

    def coefficients(self) -> list[float]:
        """Return the coordinates of the model's weights along the orthonormal rows.

        Raises:
            UsageError: training in the span has not begun.
        """
        if not self._row("row"):
            raise UsageError("training in the span has not begun; there are no coefficients yet")
        return self._coordinates().tolist()

    def _begin(self) -> None:
        points = [self._points.pop(name) for name in self._row("point")]
        self._write(mean_of(points))
        now = self._now()
        self._numbers["frozen"] = [float(i) for i, x in enumerate(now.values()) if is_frozen(x)]
        still = now.keys() - self._trained().keys()
        for point in points:
            for name in still:
                point[name].zero_()
        rows = _orthonormal(points)
        self._points.update({f"row-{i}": row for i, row in enumerate(rows)})
        self._stacks = {}

    def _project(self) -> None:
        self._stack()
        c = self._inverse @ self._coordinates()
        for name, x in self._trained().items():
            stack = wide(self._stacks[name])
            x.copy_((c.to(stack.dtype) @ stack).view(x.shape))

    def _coordinates(self) -> Tensor:
        self._stack()
        parts = []
        for name, x in self._trained().items():
            stack = wide(self._stacks[name])
            parts.append((stack @ x.detach().to(stack.device, stack.dtype).reshape(-1)).double())
        return torch.stack(parts).sum(0)

    def _trained(self) -> Point:
        frozen = self._numbers["frozen"]
        return {name: x for i, (name, x) in enumerate(self._now().items()) if i not in frozen}

    def _stack(self) -> None:
        """Make one matrix of the rows of each tensor, of which the points become views."""
        if self._stacks:
            return
        names = self._row("row")
        gram = torch.zeros((), dtype=torch.float64)
        for name in self._now():
            stack = torch.stack([self._points[row][name].reshape(-1) for row in names])
            for i, row in enumerate(names):
                self._points[row][name] = stack[i].view(self._points[row][name].shape)
            for part in stack.split(_COLUMNS, dim=1):
                gram = gram.to(part.device) + part.double() @ part.double().T
            self._stacks[name] = stack
        # Rows are orthonormal as far as their precision goes; without this, what is left of it
        # would shrink or stretch the weights a little at every step.
        self._inverse = torch.linalg.inv_ex(gram)[0]


def _orthonormal(points: list[Point]) -> list[Point]:
    """Return orthonormal vectors that span what the points span; points are overwritten."""
    rows: list[Point] = []
    for point in points:
        rest = {name: wide(x).clone() for name, x in point.items()}
        size = _dot(rest, rest) ** 0.5
        for _ in range(2):  # once more, against what rounding left
            for row in rows:
                share = _dot(row, rest)
                for name, x in rest.items():
                    x.sub_(wide(row[name]), alpha=share)
        norm = _dot(rest, rest) ** 0.5
        if norm <= 1e-6 * size:
            continue  # spanned already
        rows.append({name: x.copy_(rest[name] / norm) for name, x in point.items()})
    return rows


def _dot(one: Point, other: Point) -> float:
    parts = [
        torch.dot(one[name].reshape(-1).double(), other[name].reshape(-1).double()) for name in one
    ]
    return float(torch.stack(parts).sum())
