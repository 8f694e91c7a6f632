"""What losses along a way have in common: other quantities beside them, and how they are drawn."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from thalweg.core.errors import UsageError, did_you_mean
from thalweg.landscape.measure import Series
from thalweg.landscape.results import Saved

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from thalweg.landscape.figures.heights import Scale


class Along(Saved, ABC):
    """Base of results that are losses at positions along a way.

    Attributes:
        losses: the loss at each position.
        also: other quantities at the same weights by name, such as the test loss.
    """

    losses: Series
    also: Mapping[str, Series]

    @abstractmethod
    def way(self) -> dict[str, Any]:
        """Return positions, label, title and ends, as `draw_line` takes them."""

    @abstractmethod
    def _rise(self, values: Sequence[float]) -> float:
        """Return the barrier in some values, none of which is NaN."""

    def rise(self, name: str | None = None) -> float:
        """Return the barrier in one of the other quantities, measured as that in the loss.

        Args:
            name: of the quantity, one that is better where it is lower; None means the loss.

        Raises:
            UsageError: there is no such quantity.
        """
        if name is not None and name not in self.also:
            raise UsageError(
                f'"{name}" was not evaluated.{did_you_mean(name, self.also)} '
                f"Known: {', '.join(self.also) or 'the loss alone'}."
            )
        values = self.losses if name is None else self.also[name]
        # max() would lose a NaN that does not come first.
        return math.nan if any(math.isnan(one) for one in values) else self._rise(values)

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        scale: Scale = "auto",
        clip: float | None = None,
    ) -> Figure:
        """Draw the losses along the way, and beside them each other kind of quantity.

        Args:
            path: the file to write, by its suffix (svg, pdf, png); none is written without it.
            scale: of the losses; see `Grid.plot`.
            clip: draw higher losses at this one; the figure says so.

        Raises:
            UsageError: as `Grid.plot`.
        """
        from thalweg.landscape.figures.lines import draw_line

        return draw_line(
            path=path, scale=scale, clip=clip, losses=self.losses, also=self.also, **self.way()
        )
