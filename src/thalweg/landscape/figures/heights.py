"""Losses as heights: linear or logarithmic, clipped, and what is said of it."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from thalweg.core.errors import UsageError, did_you_mean

Scale = Literal["auto", "linear", "log"]
SCALES: tuple[Scale, ...] = get_args(Scale)

WIDE = 20.0
"""The ratio of losses beyond which "auto" takes logarithms."""


class Heights:
    """What is drawn of some losses.

    Args:
        values: of any shape, NaN and infinities included.
        scale: "log", "linear", or "auto": the logarithm where all are positive and span a factor
            of more than `WIDE`.
        clip: losses above are drawn at it. Infinite ones are drawn at the largest finite one.

    Attributes:
        values: what is drawn; NaN stays NaN.
        log: whether the scale is logarithmic.
        low: the least that is drawn.
        high: the most.
        notes: what was clipped or left out, in words.

    Raises:
        UsageError: an unknown scale, a logarithm of a loss that is not positive, a clip below
            every loss, or no finite loss.
    """

    def __init__(self, values: np.ndarray, scale: Scale = "auto", clip: float | None = None):
        if scale not in SCALES:
            raise UsageError(f'unknown scale "{scale}".{did_you_mean(scale, SCALES)}')
        values = np.asarray(values, dtype=np.float64)
        finite = values[np.isfinite(values)]
        if not finite.size:
            raise UsageError("no loss is finite, so there is nothing to draw")
        self.low, highest = float(finite.min()), float(finite.max())
        if clip is not None and not clip > self.low:
            raise UsageError(f"clip={clip} lies below every loss; the least is {self.low:.4g}")
        self.high = highest if clip is None else min(highest, clip)
        if scale == "log" and self.low <= 0:
            raise UsageError(
                f"a log scale needs positive losses, the least is {self.low:.4g}; use linear"
            )
        wide = self.low > 0 and self.high / self.low > WIDE
        self.log = scale == "log" or (scale == "auto" and wide)
        self.values = np.clip(values, self.low, self.high)  # clip leaves NaN as it is
        self.notes = []
        over, below = values > self.high, np.isneginf(values)
        if over.any():
            top = "infinity" if np.isposinf(values).any() else f"{highest:.3g}"
            self.notes.append(
                f"clipped at {self.high:.3g}: {int(over.sum())} of {values.size} points lie "
                f"above, up to {top}"
            )
        if below.any():
            self.notes.append(f"{int(below.sum())} points of minus infinity at the bottom")
        missing = int(np.isnan(values).sum())
        if missing:
            self.notes.append(f"{missing} of {values.size} points are NaN and left out")

    def drawn(self, values: Any) -> Any:
        """Return how high values are drawn: the logarithm of them on a logarithmic scale."""
        return np.log10(values) if self.log else values

    def split(self, shapes: Sequence[tuple[int, ...]]) -> list[Heights]:
        """Return parts of the values, one after the other, each with the scale of the whole."""
        parts, start = [], 0
        for shape in shapes:
            part = copy.copy(self)
            size = math.prod(shape)
            part.values = self.values.reshape(-1)[start : start + size].reshape(shape)
            start += size
            parts.append(part)
        return parts

    def levels(self, count: int = 22) -> np.ndarray:
        """Return values for contour lines, even on the scale."""
        low, high = self.low, self.high
        if high <= low:
            high = math.nextafter(low + abs(low) * 1e-6 + 1e-12, math.inf)
        return np.geomspace(low, high, count) if self.log else np.linspace(low, high, count)
