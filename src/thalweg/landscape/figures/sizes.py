"""How the magnitudes of a vector's entries are spread."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thalweg.landscape.figures.lines import STYLES
from thalweg.landscape.figures.style import drawing, note

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor


@dataclass(frozen=True)
class Spread:
    """Magnitudes of entries, ascending, and the share of all entries up to each.

    Attributes:
        sizes: those that are positive and finite, or evenly chosen ones of them.
        shares: of all entries, from 0 to 1.
        left_out: what is not among the sizes, in words.
        every: all magnitudes, ascending; NaN last.
    """

    sizes: np.ndarray
    shares: np.ndarray
    left_out: str
    every: np.ndarray

    def at(self, share: float) -> float:
        """Return the magnitude that so large a share of entries does not exceed."""
        return float(self.every[max(0, int(np.ceil(share * len(self.every))) - 1)])


def spread(x: Tensor, points: int) -> Spread:
    """Return how the magnitudes of entries are spread, by about so many of them."""
    every = np.sort(x.abs().double().numpy(force=True).reshape(-1))
    shares = np.arange(1, len(every) + 1) / len(every)
    shown = np.flatnonzero(np.isfinite(every) & (every > 0))
    missing = len(every) - len(shown)
    text = f"{missing} entries are zero or not finite" if missing else ""
    if len(shown) > points:
        shown = shown[np.linspace(0, len(shown) - 1, points).round().astype(int)]
    return Spread(every[shown], shares[shown], text, every)


def draw_sizes(
    parts: Mapping[str, Tensor], path: str | os.PathLike[str] | None, title: str
) -> Figure:
    """Draw how the magnitudes of entries are spread, as the share of entries up to each."""
    notes = []
    with drawing((4.2, 3.0), path) as figure:
        axes = figure.add_subplot()
        for (name, x), style in zip(parts.items(), STYLES, strict=False):
            # As many points as print can show.
            found = spread(x, 2000)
            if found.left_out:
                notes.append(f"{name}: {found.left_out}")
            axes.plot(found.sizes, found.shares, label=name, **style)
        axes.set_xscale("log")
        axes.set_xlabel("magnitude of an entry (log scale)")
        axes.set_ylabel("share of entries up to it")
        axes.set_title(title)
        if len(parts) > 1:
            axes.legend()
        note(figure, notes)
    return figure
