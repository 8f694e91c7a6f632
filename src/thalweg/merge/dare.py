"""DARE: drop and rescale."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thalweg.core.checks import check_flag, check_whole
from thalweg.core.errors import UsageError
from thalweg.core.seeds import derive_seed
from thalweg.merge.method import Around, Measure, Merge, Piece, each_model, spread

BLOCK = 1 << 18
"""Entries whose masks are drawn together, so that masks do not depend on how pieces are cut."""

_LEVELS = 1 << 16


@dataclass(frozen=True)
class DARE(Around):
    r"""Task vectors with most entries dropped at random and the rest rescaled, then merged.

    :math:`\tilde w_t = w_0 + \frac{m_t \odot (w_t - w_0)}{1 - p}` with independent
    :math:`m \sim Bernoulli(1 - p)`; then the merge ``then`` of the :math:`\tilde w_t`. The mean of
    the rescaled vector is the vector, its variance :math:`\delta^2 p / (1 - p)`. When to use:
    before other merges of models with small task vectors. Yu, Yu, Yu, Huang & Li, "Language
    Models are Super Mario", ICML 2024, arXiv:2311.03099.

    The masks depend on the seed, the model's place and the tensor's name. They are drawn with 16
    bits, so p is taken to the nearest 65,536th that is neither 0 nor 1, by which the rest is
    rescaled, too. Difference from the
    authors' code: that does not rescale at p = 1; here p is below 1.

    Args:
        drop: p in [0, 1), or one a model; 0.9 in most of the paper.
        then: the merge that follows, or its name: "task-arithmetic", "model-soups", "ties", ...
        rescale: whether the rest is rescaled.
        seed: of the masks.

    Raises:
        UsageError: impossible settings.
    """

    drop: float | tuple[float, ...] = 0.9
    then: str | Merge = "task-arithmetic"
    rescale: bool = True
    seed: int = field(default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "drop", each_model("dare: drop", self.drop, "[0, 1)"))
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

    @property
    def needs_base(self) -> bool:  # type: ignore[override]
        """Return that task vectors need one."""
        return True

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
        drops = spread(self.drop, len(piece.models))
        for place, (delta, drop) in enumerate(zip(piece.deltas, drops, strict=True)):
            if drop == 0:  # to the bit
                models.append(piece.models[place])
                continue
            level = min(max(round(drop * _LEVELS), 1), _LEVELS - 1)
            kept = self._draws(piece, place).to(delta).ge_(level - _LEVELS // 2)
            if self.rescale:
                kept.mul_(_LEVELS / (_LEVELS - level))
            models.append(delta.mul_(kept.reshape(delta.shape)).add_(piece.base))
        return replace(piece, models=tuple(models))

    def _draws(self, piece: Piece, place: int) -> Tensor:
        """Return a random number of 16 bits, from -32768 to 32767, for each entry of a piece."""
        count = piece.models[0].numel()
        draws = []
        for start in range(piece.start, piece.start + count, BLOCK):
            seed = derive_seed(self.seed, "dare", place, piece.name, start // BLOCK)
            size = min(BLOCK, piece.start + count - start)
            words = np.random.SFC64(seed).random_raw(-(-size // 4))
            draws.append(words.astype("<u8", copy=False).view("<i2")[:size])
        found = draws[0] if len(draws) == 1 else np.concatenate(draws)
        return torch.from_numpy(found.astype(np.int16, copy=False))


@dataclass
class _Thinned(Measure):
    dare: DARE
    inner: Measure

    @property
    def passes(self) -> int:  # type: ignore[override]
        return self.inner.passes

    def part(self, turn: int, size: int) -> int:
        return self.inner.part(turn, size)

    def add(self, turn: int, piece: Piece) -> None:
        self.inner.add(turn, self.dare.thinned(piece))

    def end(self, turn: int) -> None:
        self.inner.end(turn)
