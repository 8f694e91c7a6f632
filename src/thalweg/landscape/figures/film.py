"""A surface that turns once, as an animated GIF."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thalweg.core.errors import UsageError
from thalweg.core.files import make_folder
from thalweg.landscape.figures.grids import draw_grid
from thalweg.landscape.figures.heights import Scale
from thalweg.landscape.figures.style import require_matplotlib
from thalweg.landscape.objective import Progress

if TYPE_CHECKING:
    from thalweg.landscape.grid import Grid


def check_film(path: str | os.PathLike[str]) -> Path:
    """Return the path of a film.

    Raises:
        UsageError: its suffix is not ``.gif``, or matplotlib is not installed.
    """
    require_matplotlib()
    file = Path(path)
    if file.suffix.lower() != ".gif":
        raise UsageError(f"a film is a file in .gif; found {file}")
    return file


def draw_film(
    grid: Grid,
    path: str | os.PathLike[str],
    *,
    frames: int,
    seconds: float,
    scale: Scale,
    clip: float | None,
    colour_map: str,
    progress: Progress | None,
) -> Path:
    """Draw and write a film; see `Grid.film`."""
    file = check_film(path)
    if frames < 2 or not seconds > 0:
        raise UsageError(
            f"a film needs two frames and a positive duration, found {frames} and {seconds}"
        )
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    labels = tuple(label.split(" (")[0] for label in grid.labels())
    figure = draw_grid(grid, None, (labels[0], labels[1]), view="3d", scale=scale, clip=clip, colour_map=colour_map)
    # A layout that is solved anew for each angle would make the surface jump.
    canvas = FigureCanvasAgg(figure)
    for axes in figure.axes:
        axes.set_box_aspect(None, zoom=0.86)  # type: ignore[arg-type,call-arg]
    canvas.draw()
    figure.set_layout_engine("none")
    shots = []
    for k in range(frames):
        for axes in figure.axes:
            axes.view_init(elev=32, azim=-58 + 360 * k / frames)  # type: ignore[attr-defined]
        canvas.draw()
        shots.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]))
        if progress is not None:
            progress(k + 1, frames)
    # One palette for all frames, so that colours do not flicker.
    palette = shots[0].quantize(colors=255)
    coded = [shot.quantize(palette=palette, dither=Image.Dither.NONE) for shot in shots]
    make_folder(file.parent)
    duration = max(20, round(1000 * seconds / frames))
    coded[0].save(file, save_all=True, append_images=coded[1:], duration=duration, loop=0)
    return file
