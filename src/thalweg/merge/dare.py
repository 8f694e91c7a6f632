"""DARE: drop and rescale."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from thalweg.core.checks import check_flag, check_number, check_whole
from thalweg.core.errors import UsageError
from thalweg.core.seeds import generator
from thalweg.merge.method import Measure, Merge, Piece

BLOCK = 1 << 16
"""Entries whose masks are drawn together, so that masks do not depend on how pieces are cut."""


@dataclass(frozen=True)
class DARE(Merge):
    r"""Task vectors with most entries dropped at random and the rest rescaled, then merged.

    :math:`\tilde w_t = w_0 + \frac{m_t \odot (w_t - w_0)}{1 - p}` with independent
    :math:`m \sim Bernoulli(1 - p)`; then the merge ``then`` of the :math:`\tilde w_t`. The mean of
    the rescaled vector is the vector, its variance :math:`\delta^2 p / (1 - p)`. When to use:
    before other merges of models with small task vectors. Yu, Yu, Yu, Huang & Li, "Language
    Models are Super Mario", ICML 2024, arXiv:2311.03099.

    The masks depend on the seed, the model's place and the tensor's name. Difference from the
    authors' code: that does not rescale at p = 1; here p is below 1.

    Args:
        drop: p in [0, 1); 0.9 in most of the paper.
        then: the merge that follows, as text: "task-arithmetic", "model-soups", "ties", ...
        rescale: whether the rest is rescaled.
        seed: of the masks.

    Raises:
        UsageError: impossible settings.
    """

    drop: float = 0.9
    then: str = "task-arithmetic"
    rescale: bool = True
    seed: int = field(default=0)

    def __post_init__(self) -> None:
        check_number("dare: drop", self.drop, "[0, 1)")
        check_flag("dare: rescale", self.rescale)
        check_whole("dare: seed", self.seed, least=0)
        if self.following.chooses:
            raise UsageError(
                f'dare cannot be followed by "{self.then}", which chooses by data; apply dare to '
                "the models first, and merge the results"
            )

    @cached_property
    def following(self) -> Merge:
        """Return the merge that follows."""
        from thalweg.merge.catalogue import named

        return named(self.then)

    needs_base: ClassVar[bool] = True

    @property
    def reads(self) -> Literal["element", "tensor"]:  # type: ignore[override]
        """Return what the following merge reads."""
        return self.following.reads

    @property
    def scope(self) -> Literal["tensor", "global"]:  # type: ignore[override]
        """Return over what the following merge measures."""
        return self.following.scope

    @property
    def measures(self) -> Literal["models", "statistics"]:  # type: ignore[override]
        """Return what the following merge measures."""
        return self.following.measures

    @property
    def needs_statistics(self) -> Literal["fisher", "gram"] | None:  # type: ignore[override]
        """Return the statistics that the following merge needs."""
        return self.following.needs_statistics

    @property
    def needs_base_statistics(self) -> bool:  # type: ignore[override]
        """Return whether the following merge needs the base's, too."""
        return self.following.needs_base_statistics

    def check(self, count: int) -> None:
        """Raise UsageError unless the following merge takes so many models."""
        self.following.check(count)

    def measure(self, count: int) -> Measure | None:
        """Return the following merge's measure, of the thinned models."""
        inner = self.following.measure(count)
        return None if inner is None else _Thinned(self, inner)

    def combine(self, piece: Piece, measured: Any) -> Tensor:
        """Return the following merge of the thinned models."""
        inner = measured.inner if isinstance(measured, _Thinned) else measured
        return self.following.combine(self.thinned(piece), inner)

    def thinned(self, piece: Piece) -> Piece:
        """Return the piece with each model's task vector thinned."""
        if not piece.models:  # only statistics are being read
            return piece
        assert piece.base is not None
        models = []
        for place, delta in enumerate(piece.deltas):
            kept = self._mask(piece, place).reshape(delta.shape).to(delta.device)
            delta.mul_(kept)
            if self.rescale:
                delta.div_(1 - self.drop)
            # Without a drop the models come out to the bit.
            models.append(delta.add_(piece.base) if self.drop else piece.models[place])
        return replace(piece, models=tuple(models))

    def _mask(self, piece: Piece, place: int) -> Tensor:
        count = piece.models[0].numel()
        draws = []
        for start in range(piece.start, piece.start + count, BLOCK):
            random = generator(self.seed, "dare", place, piece.name, start // BLOCK)
            draws.append(torch.rand(min(BLOCK, piece.start + count - start), generator=random))
        return torch.cat(draws) >= self.drop


@dataclass
class _Thinned(Measure):
    dare: DARE
    inner: Measure

    def __post_init__(self) -> None:
        self.passes = self.inner.passes

    def add(self, turn: int, piece: Piece) -> None:
        self.inner.add(turn, self.dare.thinned(piece))

    def end(self, turn: int) -> None:
        self.inner.end(turn)
