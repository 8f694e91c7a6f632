"""Merges that make their result of whole models, with a network and data at hand."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor

from thalweg.merge.method import Evidence, Merge, Piece, Weights


@dataclass(frozen=True)
class WholeMerge(Merge):
    """Base of merges that are no formula for entries: they see all models at once, and choose.

    What they make is then given out piece by piece like any merge, batch-norm statistics too.
    """

    chooses: ClassVar[Literal["score", "objective"] | None] = "objective"
    complete: ClassVar[bool] = True
    made: Weights | None = field(default=None, init=False, repr=False, compare=False)

    @abstractmethod
    def make(self, models: Sequence[Weights], evidence: Evidence) -> Weights:
        """Return the merged weights."""

    def choose(self, models: Sequence[Weights], evidence: Evidence) -> Merge:
        """Return this merge with its result made."""
        self.check(len(models))
        chosen = copy.copy(self)
        object.__setattr__(chosen, "made", self.make(models, evidence))
        return chosen

    def combine(self, piece: Piece, measured: None) -> Tensor:
        """Return these entries of what was made."""
        assert self.made is not None
        own = piece.models[0]
        flat = self.made[piece.name].reshape(-1)[piece.start : piece.start + own.numel()]
        return flat.to(own).reshape(own.shape)
