"""What a surface can be drawn and written as."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

from thalweg.landscape.objective import Progress
from thalweg.landscape.results import Saved

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from thalweg.landscape.figures.grids import View
    from thalweg.landscape.figures.heights import Scale
    from thalweg.landscape.grid import Grid


class Drawn(Saved):
    """Base of `Grid`: its figure, its files for other programs, and its film."""

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        view: View = "both",
        scale: Scale = "auto",
        clip: float | None = None,
        colour_map: str = "viridis",
    ) -> Figure:
        """Draw losses as contours and in 3D, and below them each metric as contours.

        Trajectories and marks are drawn where they lie. What was clipped, left out or not yet
        evaluated, and how far from the plane the projected points are, is said in the figure.

        Args:
            path: a file to write, in ``.svg``, ``.pdf`` or ``.png``.
            view: "contour", "3d" or "both" beside each other.
            scale: "linear", "log", or "auto": log where positive losses span a factor of 20.
            clip: losses above are drawn at it.
            colour_map: of matplotlib; "viridis", "cividis" and their like are perceptually even.

        Raises:
            UsageError: matplotlib is missing, an impossible argument, or nothing to draw.
        """
        from thalweg.landscape.figures.grids import draw_grid

        return draw_grid(
            self._grid(),
            path,
            self._grid().labels(),
            view=view,
            scale=scale,
            clip=clip,
            colour_map=colour_map,
        )

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        scale: Scale = "auto",
        clip: float | None = None,
        colour_map: str = "viridis",
    ) -> Path:
        """Write the surface for another program.

        ``.glb`` is binary glTF 2.0, for Blender, viewers and the web: a coloured mesh for each
        quantity side by side, whose positions are coordinates, height and minus the second
        coordinate, and whose ``_LOSS`` is the loss itself. ``.vtu`` is VTK's unstructured grid,
        for ParaView: squares with every quantity as float64, trajectories as lines and marks as
        vertices, told apart by the cells' ``part`` (0, 1 and up, -1). Squares with a NaN at a
        corner are left out.

        Args:
            path: ends in ``.glb`` or ``.vtu``; its folder is made.
            scale: of the heights; see `plot`. A height is the logarithm to base 10 if log.
            clip: losses above have the height of it.
            colour_map: of glTF: "viridis", "cividis", "tarn" or "ember".

        Returns:
            The path.

        Raises:
            UsageError: an impossible argument, nothing to draw, or a folder that cannot be
                written to.
        """
        from thalweg.landscape.export import export

        return export(self._grid(), path, scale=scale, clip=clip, colours=colour_map)

    def film(
        self,
        path: str | os.PathLike[str],
        *,
        frames: int = 60,
        seconds: float = 6.0,
        scale: Scale = "auto",
        clip: float | None = None,
        colour_map: str = "viridis",
        progress: Progress | None = None,
    ) -> Path:
        """Draw the surface turning once, as an animated GIF, with Pillow.

        Each quantity turns beside the others, on one scale; trajectories, marks and what was
        clipped are shown as in `plot`.

        Args:
            path: ends in ``.gif``; its folder is made.
            frames: how many pictures.
            seconds: of one turn.
            scale: see `plot`, and so are ``clip`` and ``colour_map``.
            clip: losses above are drawn at it.
            colour_map: "viridis", "cividis", "tarn" or "ember".
            progress: told how many of how many pictures are drawn.

        Returns:
            The path.

        Raises:
            UsageError: as `plot`, no two frames, or Pillow is missing.
        """
        from thalweg.landscape.figures.film import draw_film

        return draw_film(
            self._grid(),
            path,
            frames=frames,
            seconds=seconds,
            scale=scale,
            clip=clip,
            colours=colour_map,
            progress=progress,
        )

    def _grid(self) -> Grid:
        return cast("Grid", self)
