"""What a merge is: a formula for a piece of a tensor, and numbers that it needs first."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from thalweg.core.checks import check_number
from thalweg.core.errors import UsageError
from thalweg.core.shares import shares

if TYPE_CHECKING:
    from thalweg.landscape import Objective

Weights = Mapping[str, Tensor]
"""Weights by name, as of ``model.state_dict()``."""

Score = Callable[[Weights], float]
"""How good weights are on held-out data; higher is better."""


@dataclass(frozen=True)
class Piece:
    """Some entries of one tensor, of all models; everything in it is read only.

    Attributes:
        name: of the tensor.
        shape: of the whole tensor.
        start: the first entry's place in the flattened tensor.
        models: the entries of each model, flat, or the whole tensor in its shape for merges that
            read tensors; float32, or float64 if any tensor of any model is.
        stands_for: how many entries these are the first of: all, but in a pass that reads a part of
            each piece (`Measure.part`).
        base: those of the base model.
        statistics: what was measured about this tensor in each model, if the merge needs it.
        base_statistics: the same of the base model.
    """

    name: str
    shape: tuple[int, ...]
    start: int
    models: tuple[Tensor, ...]
    stands_for: int
    base: Tensor | None = None
    statistics: tuple[Tensor, ...] = ()
    base_statistics: Tensor | None = None

    @property
    def deltas(self) -> list[Tensor]:
        """Return the task vectors, each model less the base."""
        assert self.base is not None
        return [w - self.base for w in self.models]


class Measure(ABC):
    """Numbers over one tensor, or over all, that a merge's formula needs.

    Attributes:
        passes: how often all pieces are read; `end` may raise it.
    """

    passes: int = 1

    def part(self, turn: int, size: int) -> int:
        """Return how many entries of a piece of so many a pass reads, from the first one on."""
        del turn
        return size

    @abstractmethod
    def add(self, turn: int, piece: Piece) -> None:
        """Take in a piece in the pass ``turn``, counted from 0."""

    def end(self, turn: int) -> None:
        """Finish a pass."""
        del turn


@dataclass(frozen=True)
class Evidence:
    """What merges that choose by data may use.

    Attributes:
        score: of weights, on data that no model was trained on.
        objective: the loss on held-out batches, with its model.
    """

    score: Score | None = None
    objective: Objective | None = None


@dataclass(frozen=True)
class Merge(ABC):
    """Base of all merges: a frozen dataclass of settings.

    A merge is an elementwise formula over pieces of tensors (`combine`), so that models larger
    than memory are merged piece by piece; what it must know before (angles, thresholds) is a
    `Measure` over a tensor or over all of them (`scope`). Tensors that are not floats, and
    batch-norm statistics, never reach it unless it makes statistics itself (`complete`).

    Attributes:
        needs_base: whether it starts from a model that all others were fine-tuned from.
        needs_statistics: which statistics it needs of every model: "fisher" (shaped as the
            weights), "gram" (of a linear layer's inputs).
        needs_base_statistics: whether it needs those of the base as well.
        chooses: what it chooses by first: "score", "objective" or nothing.
        complete: whether it makes batch-norm statistics, too; else they are averaged.
        reads: "element" if entries are independent given the measure, else "tensor".
        scope: over what it measures.
        measures: what is read while measuring.
        whole: what becomes of whole numbers: they are the same in all models, or the last one's.
        least: how many models it takes at least.
        most: how many at most.
    """

    needs_base: ClassVar[bool] = False
    needs_statistics: ClassVar[Literal["fisher", "gram"] | None] = None
    needs_base_statistics: ClassVar[bool] = False
    chooses: ClassVar[Literal["score", "objective"] | None] = None
    complete: ClassVar[bool] = False
    reads: ClassVar[Literal["element", "tensor"]] = "element"
    scope = "tensor"  # no annotation: it is a setting of some merges, in a place of its own
    measures: ClassVar[Literal["models", "statistics"]] = "models"
    whole: ClassVar[Literal["same", "last"]] = "same"
    least: ClassVar[int] = 1
    most: ClassVar[float] = math.inf

    def check(self, count: int) -> None:
        """Raise UsageError unless the settings serve so many models."""
        if not self.least <= count <= self.most:
            wanted = (
                f"exactly {self.least}"
                if self.least == self.most
                else f"at least {self.least}"
                if count < self.least
                else f"at most {self.most}"
            )
            raise UsageError(f"{type(self).__name__} takes {wanted} models, found {count}")
        for what in ("weights", "density", "drop"):
            found = getattr(self, what, None)
            if isinstance(found, tuple) and len(found) != count:
                raise UsageError(
                    f"{type(self).__name__}: {what} has {len(found)} numbers for {count} models; "
                    "give one for each"
                )

    def choose(self, models: Sequence[Weights], evidence: Evidence) -> Merge:
        """Return the merge to carry out, chosen by data; itself if there is nothing to choose."""
        del models, evidence
        return self

    def of(self, name: str) -> Merge:
        """Return the merge for one tensor; itself unless settings differ among tensors."""
        del name
        return self

    def plain_weights(self) -> tuple[float, ...] | None:
        """Return how the models weigh in what is averaged plainly; None for alike."""
        return None

    def measure(self, count: int) -> Measure | None:
        """Return an empty measure for so many models, or None if none is needed."""
        del count
        return None

    @abstractmethod
    def combine(self, piece: Piece, measured: Any) -> Tensor:
        """Return the merged entries, shaped as those of one model."""


class Around(Merge):
    """Base of merges that change what another one gets or does, and need what it needs."""

    @property
    @abstractmethod
    def following(self) -> Merge:
        """Return the other merge."""

    @property
    def needs_base(self) -> bool:  # type: ignore[override]
        """Return what the other merge says."""
        return self.following.needs_base

    @property
    def needs_statistics(self) -> Literal["fisher", "gram"] | None:  # type: ignore[override]
        """Return what the other merge says."""
        return self.following.needs_statistics

    @property
    def needs_base_statistics(self) -> bool:  # type: ignore[override]
        """Return what the other merge says."""
        return self.following.needs_base_statistics

    @property
    def reads(self) -> Literal["element", "tensor"]:  # type: ignore[override]
        """Return what the other merge says."""
        return self.following.reads

    @property
    def scope(self) -> Literal["tensor", "global"]:  # type: ignore[override]
        """Return what the other merge says."""
        return self.following.scope  # type: ignore[return-value]

    @property
    def measures(self) -> Literal["models", "statistics"]:  # type: ignore[override]
        """Return what the other merge says."""
        return self.following.measures

    def check(self, count: int) -> None:
        """Raise UsageError unless both merges take so many models."""
        super().check(count)
        self.following.check(count)


def each_model(what: str, value: Any, interval: str) -> float | tuple[float, ...]:
    """Return a setting that is one number, or one a model, after checking it.

    Raises:
        UsageError: a number outside of the interval.
    """
    if not isinstance(value, tuple | list):
        check_number(what, value, interval)
        return value
    for one in value:
        check_number(what, one, interval)
    return tuple(value)


def spread(value: float | tuple[float, ...], count: int) -> tuple[float, ...]:
    """Return such a setting as one number a model."""
    return value if isinstance(value, tuple) else (value,) * count


def mean(tensors: Sequence[Tensor], weights: Sequence[float] | None = None) -> Tensor:
    """Return the weighted mean of tensors; of equal ones it is that tensor to the bit."""
    first, *others = tensors
    if len(others) == 1:
        return torch.lerp(first, others[0], shares(weights, 2)[1])
    result = first.clone()
    for x, share in zip(others, shares(weights, len(tensors))[1:], strict=True):
        result.add_(x - first, alpha=share)
    return result
