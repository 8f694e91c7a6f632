"""Averages of a model's weights along a run: kept beside it, swapped in, restored, saved."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from thalweg.average.kept import (
    Followed,
    Keeping,
    Point,
    blend,
    check_match,
    is_frozen,
    put,
    tensors_of,
)
from thalweg.average.settings import Average
from thalweg.core.checks import check_whole
from thalweg.core.errors import UsageError


class RunningAverage(ABC):
    """What has been gathered so far of the weights that a model has passed through.

    A training loop calls `update` after every update of the optimiser, evaluates the model inside
    `applied`, and, while `monitors` is true, tells `evaluated` the validation loss of the training
    weights after every evaluation. That is all: averages that change the training do it in
    `update`, where they may write into the model's weights.

    Weights of 16 bits are averaged in float32, where a step of a thousandth does not vanish.
    Sharded weights (DTensor) stay sharded.

    Attributes:
        settings: of the average.
        count: points averaged so far.
        needs_recalibration: whether batch-norm statistics belong to other weights once the
            average is in place; recompute them with `recalibrate_batch_norm`.
        averages_buffers: whether floating-point buffers (batch-norm statistics) are averaged as
            weights are, and others copied.
        writes_back: whether `update` may change the model's weights; frozen ones it never does.
        rows: the names of rows of points, of which it keeps now more, now fewer.

    Args:
        settings: of the average.
        model: the model to follow; its weights are read at every update.

    Raises:
        UsageError: the model has parameters without a shape yet.
    """

    needs_recalibration: ClassVar[bool]
    averages_buffers: ClassVar[bool]
    writes_back: ClassVar[bool] = False
    rows: tuple[str, ...] = ()

    def __init__(self, settings: Average, model: nn.Module) -> None:
        self.settings: Any = settings
        self.count = 0
        self._followed = Followed(model, self.averages_buffers)
        self._keeping = Keeping(settings.device, settings.precision)
        # All state is in these two, so that what saves them saves any average.
        self._points: dict[str, Point] = {}
        self._numbers: dict[str, list[float]] = {}

    @property
    def monitors(self) -> bool:
        """Whether the average goes by the validation loss of the training weights."""
        return False

    @torch.no_grad()
    def update(self, step: int, steps: int) -> None:
        """Take in the model's weights; call after every update of the optimiser.

        Args:
            step: the step, from 0, whose update the weights come from.
            steps: updates of the whole run.

        Raises:
            UsageError: the numbers make no sense, or the model's parameters are not those it had.
        """
        check_whole("average: steps", steps, least=1)
        check_whole("average: step", step, least=0)
        self._update(step, steps)

    @abstractmethod
    def _update(self, step: int, steps: int) -> None:
        """Take in the model's weights."""

    def evaluated(self, loss: float) -> None:
        """Hear the validation loss of the model's training weights.

        Args:
            loss: the lower, the better.

        Raises:
            UsageError: it is no number.
        """
        del loss

    @abstractmethod
    def _current(self) -> Point | None:
        """Return the average by name, or None where the model's own weights stand for it."""

    def members(self) -> Iterator[Point] | None:
        """Return the points whose predictions are averaged instead, if the average is of those."""
        return None

    def weights(self) -> Point:
        """Return a copy of the average by name; before the first point the model's weights."""
        found = self._current() if self.count else None
        return _copied(self._now() if found is None else found)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[nn.Module]:
        """Put the average in place of the model's weights while the context lasts.

        On the way out, after errors too, the weights and all buffers are bit for bit what they
        were, so that batch norm may be recalibrated inside. Before the first point was taken in,
        the model keeps its own weights.

        Args:
            model: the model, or another with the same names and shapes.

        Raises:
            UsageError: the model has other parameters; it is unchanged.
        """
        followed = tensors_of(model, self.averages_buffers)
        ours = dict(zip(self._followed.names, self._followed.tensors, strict=True))
        check_match("the model", followed, ours)
        saved = {name: x.detach().clone() for name, x in tensors_of(model, True).items()}
        try:
            average = self._current() if self.count else None
            if average is not None:
                put(average, followed)
            yield model
        finally:
            put(saved, tensors_of(model, True))

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that the average goes on from, as tensors by name; not copies."""
        state = {"count": torch.tensor(self.count)}
        for name, values in self._numbers.items():
            state[name] = torch.tensor(values, dtype=torch.float64)
        for kind, point in self._points.items():
            state.update({f"{kind}.{name}": x for name, x in point.items()})
        return state

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` returned, bit for bit.

        Raises:
            UsageError: the names or shapes are not this model's, or it is the state of another
                average; nothing has changed then.
        """
        if "count" not in state_dict:
            raise UsageError('this is no state of an average: it has no "count"')
        ours = self._now()
        points: dict[str, Point] = {}
        numbers: dict[str, list[float]] = {}
        for key, x in state_dict.items():
            kind, dot, name = key.partition(".")
            if dot:
                points.setdefault(kind, {})[name] = x
            elif key != "count":
                numbers[key] = x.tolist()
        for kind in {**self._points, **points}:
            if kind not in points and self._in_a_row(kind):
                continue  # there may be fewer
            check_match("the saved average", points.get(kind, {}), ours)
        missing = [name for name in self._numbers if name not in numbers]
        extra = [name for name in numbers if name not in self._numbers]
        extra += [k for k in points if k not in self._points and not self._in_a_row(k)]
        if missing or extra:
            raise UsageError(
                "this is the state of another average: it has "
                + (f'no "{missing[0]}"' if missing else f'"{extra[0]}" besides')
            )
        self._points = {
            kind: {name: self._keeping.copy(point[name], ours[name]) for name in ours}
            for kind, point in points.items()
        }
        self._numbers = numbers
        self.count = int(state_dict["count"])

    def _now(self) -> Point:
        """Return the model's tensors; not copies."""
        return dict(zip(self._followed.names, self._followed.now(), strict=True))

    def _snapshot(self) -> Point:
        """Return a copy of the model's tensors to keep."""
        return {name: self._keeping.copy(x) for name, x in self._now().items()}

    def _copy(self, kind: str) -> Point:
        """Return a copy of a kept point, to keep it too."""
        return _copied(self._points[kind])

    def _blend(self, kind: str, weight: float, salt: int | None = None) -> None:
        """Move a kept point towards the model's weights by a share of the way."""
        salt = self.count if salt is None else salt
        blend(list(self._points[kind].values()), self._followed.now(), weight, salt)

    def _write(self, point: Point) -> None:
        """Write a point into the model, but for parameters that are frozen."""
        put(point, {name: x for name, x in self._now().items() if not is_frozen(x)})

    def _row(self, kind: str) -> list[str]:
        """Return the names ``kind-i`` of a row of points, in order of i."""
        found = (name.rpartition("-") for name in self._points)
        return [f"{kind}-{i}" for i in sorted(int(i) for k, _, i in found if k == kind)]

    def _in_a_row(self, name: str) -> bool:
        return name.rpartition("-")[0] in self.rows


class WeightedAverage(RunningAverage):
    """A mean of the weights in which each new point has a given weight.

    Args:
        settings: of the average.
        model: the model to follow.
    """

    def __init__(self, settings: Average, model: nn.Module) -> None:
        super().__init__(settings, model)
        self._points["average"] = self._snapshot()

    @abstractmethod
    def _weight(self, step: int, steps: int) -> float | None:
        """Return the weight of the model's point after this step, or None to pass it by."""

    def _update(self, step: int, steps: int) -> None:
        weight = self._weight(step, steps)
        if weight is not None:
            self._blend("average", weight)
            self.count += 1

    def _current(self) -> Point | None:
        return self._points["average"]


class UniformAverage(WeightedAverage):
    """The mean of those points, all weighing the same, that the settings' ``collects`` chooses."""

    needs_recalibration: ClassVar[bool] = False
    averages_buffers: ClassVar[bool] = True

    def _weight(self, step: int, steps: int) -> float | None:
        return 1 / (self.count + 1) if self.settings.collects(step, steps) else None


def _copied(point: Point) -> Point:
    return {name: x.detach().clone() for name, x in point.items()}
