"""The n-th largest magnitude of vectors that are read in pieces, exactly."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_BITS = 16
_EVERY = 20  # the first look takes one in so many entries; of short pieces it takes all
_SHORT = 1 << 17
_WAITING = 1 << 20  # entries of a vector that wait to be counted together
_ERRORS = 4  # standard errors of the first look that are allowed for
_MOST = 16  # values of 16 bits on each side of the one that it found


class Thresholds:
    """For each of several vectors, the magnitude that a share of its entries reaches.

    The bits of a float's magnitude, read as a whole number, are ordered as the magnitudes are. The
    first pass counts the upper 16 bits of some entries, which tells nearly where the n-th largest
    is; the second one counts how many entries are above that neighbourhood, and all 32 bits within
    it. If the first look was misleading, which the second pass shows, both are done again with all
    entries. Memory is some 200,000 counters a vector, up to two million of short ones.

    Passes are those of a `thalweg.merge.method.Measure`, of which it is a part.

    Args:
        densities: of each vector the share, in (0, 1].

    Attributes:
        passes: passes over the pieces: 2, and 4 after a misleading look.
        least: the magnitudes; infinite where not one entry is to be kept.
    """

    def __init__(self, densities: Sequence[float]) -> None:
        self.passes = 2
        self.least = [float("inf")] * len(densities)
        self._every = _EVERY
        self._vectors = [_Counters(density) for density in densities]

    def part(self, turn: int, size: int) -> int:
        """Return how many entries of a piece of so many a pass reads."""
        looks = turn % 2 == 0 and size >= _SHORT
        return -(-size // self._every) if looks else size

    def add(self, turn: int, vectors: list[Tensor], stands_for: int) -> None:
        """Count a piece of every vector, or its first entries, which stand for so many.

        float64 is counted by its nearest float32.
        """
        for counters, vector in zip(self._vectors, vectors, strict=True):
            bits = _magnitudes(vector)
            if turn % 2 == 0:
                counters.look(bits, round(stands_for / len(bits)))
            else:
                counters.count(bits)

    def end(self, turn: int) -> None:
        """Take the neighbourhoods, or the magnitudes, from what was counted."""
        if turn % 2 == 0:
            for counters in self._vectors:
                counters.narrow(self._every)
            return
        found = [counters.least() for counters in self._vectors]
        if None in found:
            self.passes = 4
            self._every = 1
            for counters in self._vectors:
                counters.start(0, 1 << _BITS)
        else:
            self.least = [one for one in found if one is not None]


class _Counters:
    """Of one vector: first its upper 16 bits; then 32 bits from `_low` on, and what is above."""

    def __init__(self, density: float) -> None:
        self._density = density
        self.start(0, 1 << _BITS)

    def start(self, low: int, size: int) -> None:
        self._low, self._above, self._size = low, 0, 0
        self._counts = np.zeros(size, dtype=np.int64)
        self._waiting: dict[int, list[np.ndarray]] = {}
        self._held = 0

    def look(self, bits: np.ndarray, weight: int) -> None:
        self._take(bits >> _BITS, weight)

    def count(self, bits: np.ndarray) -> None:
        size = len(self._counts)
        offset = bits - np.uint32(self._low)  # of smaller ones it wraps around, to a large number
        self._take(offset[offset < np.uint32(size)])
        self._above += int(np.count_nonzero(bits >= np.uint32(self._low + size)))
        self._size += len(bits)

    def narrow(self, every: int) -> None:
        """Go on with where the threshold may be, from counts of one in so many entries."""
        self._flush()
        size = int(self._counts.sum())
        wanted = round(self._density * size) or 1
        low = high = place = _place(self._counts, wanted)
        if every > 1:
            error = _ERRORS * math.sqrt(every * wanted * (size - wanted) / size)
            low = max(_place(self._counts, min(wanted + error, size)) - 1, place - _MOST, 0)
            high = min(_place(self._counts, max(wanted - error, 1)) + 1, place + _MOST)
        self.start(low << _BITS, (high + 1 - low) << _BITS)

    def least(self) -> float | None:
        """Return the magnitude, or None if it is not in the neighbourhood."""
        self._flush()
        wanted = round(self._density * self._size)
        if wanted == 0:
            return float("inf")
        wanted -= self._above
        if not 0 < wanted <= int(self._counts.sum()):
            return None
        bits = np.array(self._low + _place(self._counts, wanted), dtype=np.uint32)
        return float(bits.view(np.float32))

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


def _place(counts: np.ndarray, wanted: float) -> int:
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
