"""The n-th largest magnitude of vectors that are read in pieces, exactly."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_BITS = 16
_EVERY = (
    7  # entries that the first look takes one of, for all of them; of short pieces it takes all
)
_SHORT = 1 << 17
_WAITING = 1 << 20  # entries of a vector that wait to be counted together
_MARGIN = 2  # values of 16 bits on each side of the one that the first look found


class Thresholds:
    """For each of several vectors, the magnitude that a share of its entries reaches.

    The bits of a float's magnitude, read as a whole number, are ordered as the magnitudes are. The
    first pass counts the upper 16 bits of some entries, which tells nearly where the n-th largest
    is; the second one counts how many entries are above that neighbourhood, and all 32 bits within
    it. If the first look was misleading, which the second pass shows, both are done again with all
    entries. Memory is some 400,000 counters a vector.

    Args:
        densities: of each vector the share, in (0, 1].

    Attributes:
        passes: passes over the pieces: 2, and 4 after a misleading look.
        least: the magnitudes; infinite where not one entry is to be kept.
    """

    def __init__(self, densities: Sequence[float]) -> None:
        self.passes = 2
        self.least = [float("inf")] * len(densities)
        self._size = 0
        self._every = _EVERY
        self._vectors = [_Counters(density) for density in densities]

    def add(self, turn: int, vectors: list[Tensor]) -> None:
        """Count a piece of every vector, in pass ``turn``.

        float64 is counted by its nearest float32.
        """
        if turn == 0:
            self._size += vectors[0].numel()
        for counters, vector in zip(self._vectors, vectors, strict=True):
            bits = _magnitudes(vector)
            if turn % 2 == 0:
                counters.look(bits, self._every if len(bits) >= _SHORT else 1)
            else:
                counters.count(bits)

    def end(self, turn: int) -> None:
        """Take the neighbourhoods, or the magnitudes, from what was counted."""
        if turn % 2 == 0:
            for counters in self._vectors:
                counters.narrow(0 if self._every == 1 else _MARGIN)
            return
        found = [counters.least(self._size) for counters in self._vectors]
        if None in found:
            self.passes = 4
            self._every = 1
            for counters in self._vectors:
                counters.start(1 << _BITS)
        else:
            self.least = [one for one in found if one is not None]


class _Counters:
    """Of one vector: first its upper 16 bits; then 32 bits from `_low` on, and what is above."""

    def __init__(self, density: float) -> None:
        self._density = density
        self._low = 0
        self._above = 0
        self.start(1 << _BITS)

    def look(self, bits: np.ndarray, every: int) -> None:
        self._take(bits[::every] >> _BITS, every)

    def narrow(self, margin: int) -> None:
        self._flush()
        place = _place(self._counts, round(self._density * int(self._counts.sum())) or 1)
        low = max(place - margin, 0)
        self._low = low << _BITS
        self._above = 0
        self.start((place + margin + 1 - low) << _BITS)

    def count(self, bits: np.ndarray) -> None:
        size = len(self._counts)
        offset = bits - np.uint32(self._low)  # of smaller ones it wraps around, to a large number
        self._take(offset[offset < np.uint32(size)])
        self._above += int(np.count_nonzero(bits >= np.uint32(self._low + size)))

    def least(self, entries: int) -> float | None:
        """Return the magnitude, or None if it is not in the neighbourhood."""
        self._flush()
        wanted = round(self._density * entries)
        if wanted == 0:
            return float("inf")
        wanted -= self._above
        if not 0 < wanted <= int(self._counts.sum()):
            return None
        bits = np.array(self._low + _place(self._counts, wanted), dtype=np.uint32)
        return float(bits.view(np.float32))

    def start(self, size: int) -> None:
        self._counts = np.zeros(size, dtype=np.int64)
        self._waiting: dict[int, list[np.ndarray]] = {}
        self._held = 0

    def _take(self, values: np.ndarray, weight: int = 1) -> None:
        """Keep values until there are enough of them to go through all counters."""
        self._waiting.setdefault(weight, []).append(values)
        self._held += len(values)
        if self._held >= _WAITING:
            self._flush()

    def _flush(self) -> None:
        for weight, values in self._waiting.items():
            found = np.bincount(np.concatenate(values), minlength=len(self._counts))
            self._counts += weight * found
        self._waiting, self._held = {}, 0


def _magnitudes(vector: Tensor) -> np.ndarray:
    return vector.detach().abs().float().flatten().cpu().numpy().view(np.uint32)


def _place(counts: np.ndarray, wanted: int) -> int:
    """Return the value of the entry that is the ``wanted``-th from the largest down."""
    above = counts[::-1].cumsum()
    return len(counts) - 1 - int(np.searchsorted(above, wanted))


def kept(vector: Tensor, least: float) -> Tensor:
    """Return the vector with 0 for all entries below a magnitude, compared as they were counted."""
    if vector.dtype != torch.float32:
        return vector * (vector.abs().float() >= least)
    # One kernel, which keeps what is larger than its number.
    below = float(np.nextafter(np.float32(least), np.float32(-np.inf)))
    return functional.hardshrink(vector, below)
