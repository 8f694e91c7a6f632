"""The n-th largest magnitude of vectors that are read in pieces, exactly."""

import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_BITS = 16
_ORDER = slice(None, None, 1 if sys.byteorder == "little" else -1)


class Thresholds:
    """For each of several vectors, the magnitude that a share of its entries reaches.

    The bits of a float's magnitude, read as a whole number, are ordered as the magnitudes are, so
    the n-th largest is found 16 bits a pass, by counting; memory is 65,536 counters a vector.

    Args:
        densities: of each vector the share, in (0, 1].

    Attributes:
        passes: passes over the pieces; float32 needs 2 of them.
        least: the magnitudes; infinite where not one entry is to be kept.
    """

    passes = 2

    def __init__(self, densities: Sequence[float]) -> None:
        count = len(densities)
        self._densities = densities
        self._size = 0
        self._left = [0] * count  # entries still to be kept among those with the known bits
        self._known = [0] * count
        self._counters = np.zeros((count, 1 << _BITS), dtype=np.int64)
        self.least: list[float] = [float("inf")] * count

    def add(self, turn: int, vectors: list[Tensor]) -> None:
        """Count a piece of every vector, in pass ``turn``.

        float64 is counted by its nearest float32.
        """
        if turn == 0:
            self._size += vectors[0].numel()
        for i, vector in enumerate(vectors):
            magnitudes = vector.detach().abs().float().flatten().cpu().numpy()
            low, high = magnitudes.view(np.uint32).view(np.uint16).reshape(-1, 2).T[_ORDER]
            bits = high if turn == 0 else low[high == self._known[i]]
            self._counters[i] += np.bincount(bits, minlength=1 << _BITS)

    def end(self, turn: int) -> None:
        """Fix the next 16 bits."""
        for i, counters in enumerate(self._counters):
            if turn == 0:
                self._left[i] = round(self._densities[i] * self._size)
            if self._left[i] == 0:
                continue
            above = counters[::-1].cumsum()  # entries from the largest value down
            place = int(np.searchsorted(above, self._left[i]))
            self._left[i] -= int(above[place - 1]) if place else 0
            value = (1 << _BITS) - 1 - place
            if turn == 0:
                self._known[i] = value
            else:
                bits = np.array([self._known[i] << _BITS | value], dtype=np.int32)
                self.least[i] = float(bits.view(np.float32)[0])
        self._counters[:] = 0


def kept(vector: Tensor, least: float) -> Tensor:
    """Return the vector with 0 for all entries below a magnitude, compared as they were counted."""
    if vector.dtype != torch.float32:
        return vector * (vector.abs().float() >= least)
    # One kernel, which keeps what is larger than its number.
    below = float(np.nextafter(np.float32(least), np.float32(-np.inf)))
    return functional.hardshrink(vector, below)
