"""What losses along a way have in common: how they are drawn."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from thalweg.landscape.results import Saved

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from thalweg.landscape.figures.heights import Scale


class Along(Saved, ABC):
    """Base of results that are losses at positions along a way."""

    @abstractmethod
    def way(self) -> dict[str, Any]:
        """Return positions, losses, label, title and ends, as `draw_line` takes them."""

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        scale: Scale = "auto",
        clip: float | None = None,
    ) -> Figure:
        """Draw the loss along the way.

        Args:
            path: the file to write, by its suffix (svg, pdf, png); none is written without it.
            scale: of the loss; see `Grid.plot`.
            clip: draw higher losses at this one; the figure says so.

        Raises:
            UsageError: as `Grid.plot`.
        """
        from thalweg.landscape.figures.lines import draw_line

        return draw_line(path=path, scale=scale, clip=clip, **self.way())
