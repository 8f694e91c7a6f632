"""A surface that turns once, as an animated GIF."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thalweg.core.errors import UsageError
from thalweg.core.files import make_folder
from thalweg.landscape.figures.families import LOSS, kind_of, on_scales
from thalweg.landscape.figures.grids import points
from thalweg.landscape.figures.heights import Scale
from thalweg.landscape.figures.turning import INK, MUTED, Turning
from thalweg.landscape.objective import Progress

if TYPE_CHECKING:
    from thalweg.landscape.grid import Grid

WIDTH, HEIGHT, HEAD, FOOT = 480, 400, 34, 22
FINE = 2
"""Pictures are painted at so many times their size, and made smaller."""


def check_film(path: str | os.PathLike[str]) -> Path:
    """Return the path of a film.

    Raises:
        UsageError: its suffix is not ``.gif``, or Pillow is not installed.
    """
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise UsageError(
            'films need Pillow, which is not installed; pip install "thalweg[figures]"'
        ) from None
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
    colours: str,
    progress: Progress | None,
) -> Path:
    """Draw and write a film; see `Grid.film`."""
    file = check_film(path)
    if frames < 2 or not seconds > 0:
        raise UsageError(
            f"a film needs two frames and a positive duration, found {frames} and {seconds}"
        )
    from PIL import Image, ImageDraw, ImageFont

    surfaces, note = _surfaces(grid, scale, clip, colours)
    fonts = [ImageFont.load_default(FINE * size) for size in (12, 15, 10.5)]
    size = WIDTH * len(surfaces), HEAD + HEIGHT + FOOT
    shots = []
    for k in range(frames):
        picture = Image.new("RGB", (FINE * size[0], FINE * size[1]), "white")
        draw = ImageDraw.Draw(picture)
        for column, (name, surface) in enumerate(surfaces.items()):
            left = FINE * WIDTH * column
            place = left, FINE * HEAD, FINE * WIDTH, FINE * HEIGHT
            surface.paint(draw, fonts[0], place, -0.62 + 2 * math.pi * k / frames)
            middle = left + FINE * WIDTH / 2
            draw.text((middle, FINE * HEAD / 2), name, font=fonts[1], fill=INK, anchor="mm")
        at = FINE * size[0] / 2, FINE * (HEAD + HEIGHT + FOOT / 2)
        draw.text(at, note, font=fonts[2], fill=MUTED, anchor="mm")
        shots.append(picture.resize(size, Image.Resampling.LANCZOS))
        if progress is not None:
            progress(k + 1, frames)
    # One palette for all frames, so that colours do not flicker.
    palette = shots[0].quantize(colors=255, method=Image.Quantize.MAXCOVERAGE)
    coded = [shot.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for shot in shots]
    make_folder(file.parent)
    duration = max(20, round(1000 * seconds / frames))
    coded[0].save(file, save_all=True, append_images=coded[1:], duration=duration, loop=0)
    return file


def _surfaces(
    grid: Grid, scale: Scale, clip: float | None, colours: str
) -> tuple[dict[str, Turning], str]:
    """Return what turns by name, each kind on one scale, and what is said of the scales."""
    columns, rows = grid.finest()
    if len(columns) < 2 or len(rows) < 2:
        raise UsageError(
            f"only {grid.evaluated} points are evaluated, which is not the coarsest grid yet"
        )
    x, y = np.array(grid.x)[columns], np.array(grid.y)[rows]
    losses = {LOSS: grid.losses, **grid.also}
    scales = on_scales(
        {name: np.array(one)[np.ix_(rows, columns)] for name, one in losses.items()}, scale, clip
    )
    g = grid.gram()
    ratio = float(np.ptp(y) * math.sqrt(g[2]) / (np.ptp(x) * math.sqrt(g[0])))
    ratio = min(max(ratio, 0.5), 2.0)
    half = (1.0, ratio) if ratio <= 1 else (1 / ratio, 1.0)
    trails = [np.stack([trail.x, trail.y], 1) for trail in grid.trails if len(trail.x) > 1]
    one, other = (label.split(" (")[0] for label in grid.labels())
    labels = (one, other) if one != other else (f"{one}, across", f"{other}, up")
    surfaces: dict[str, Turning] = {}
    notes: dict[str, str] = {}
    for name, heights in scales.items():
        low, high = heights.drawn(heights.low), heights.drawn(heights.high)
        span = (high - low) or 1.0
        shares = (heights.drawn(heights.values) - low) / span
        levels = (heights.drawn(heights.levels(16))[1:-1] - low) / span
        surfaces[name] = Turning(x, y, shares, levels, half, trails, points(grid), colours, labels)
        kind = ", log scale" if heights.log else ""
        said = "; ".join([f"from {heights.low:.3g} to {heights.high:.3g}{kind}", *heights.notes])
        notes.setdefault(kind_of(name), said)
    if len(notes) == 1:
        return surfaces, notes[LOSS]
    return surfaces, "; ".join(f"{kind} {said}" for kind, said in notes.items())
