"""Several surfaces or planes beside each other, on one scale."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.core.errors import UsageError, did_you_mean
from thalweg.landscape.figures.families import LOSS
from thalweg.landscape.figures.grids import (
    VIEWS,
    View,
    colour_bar,
    contour,
    flat_trails,
    raised,
    short,
)
from thalweg.landscape.figures.heights import Heights, Scale
from thalweg.landscape.figures.style import drawing, note

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from thalweg.landscape.grid import Grid


def side_by_side(
    grids: Mapping[str, Grid],
    path: str | os.PathLike[str] | None = None,
    *,
    quantity: str | None = None,
    view: View = "contour",
    scale: Scale = "auto",
    clip: float | None = None,
    colour_map: str = "viridis",
    label: str | None = None,
) -> Figure:
    """Draw several surfaces or planes on one scale of colours and heights.

    Args:
        grids: results by the titles of their columns.
        path: a file to write, in ``.svg``, ``.pdf`` or ``.png``.
        quantity: one of ``also``, which all of them have; the loss unless given.
        view: "contour", "3d", or "both" below each other.
        scale: see `Grid.plot`; of all grids together.
        clip: likewise.
        colour_map: likewise.
        label: what the quantity is called; its name unless given.

    Raises:
        UsageError: no grid, a quantity that one of them lacks, or as `Grid.plot`.
    """
    if not grids:
        raise UsageError("nothing to draw: pass results by their titles")
    if view not in VIEWS:
        raise UsageError(f'unknown view "{view}".{did_you_mean(view, VIEWS)}')
    places, values = {}, []
    for title, grid in grids.items():
        if quantity is not None and quantity not in grid.also:
            raise UsageError(
                f'"{title}" has no quantity "{quantity}".{did_you_mean(quantity, grid.also)}'
            )
        columns, rows = grid.finest()
        if len(columns) < 2 or len(rows) < 2:
            raise UsageError(f'of "{title}" not even the coarsest grid is evaluated')
        places[title] = np.array(grid.x)[columns], np.array(grid.y)[rows]
        losses = grid.losses if quantity is None else grid.also[quantity]
        values.append(np.array(losses)[np.ix_(rows, columns)])
    whole = Heights(np.concatenate([one.reshape(-1) for one in values]), scale, clip)
    parts = whole.split([one.shape for one in values])
    name = label or quantity or LOSS
    kinds = ("contour", "3d") if view == "both" else (view,)
    with drawing((2.7 * len(grids) + 0.8, 2.6 * len(kinds) + 0.2), path) as figure:
        flat: list[Any] = []
        filled: Any = None
        for row, kind in enumerate(kinds):
            for column, ((title, grid), heights) in enumerate(
                zip(grids.items(), parts, strict=True), 1
            ):
                x, y = places[title]
                place = len(kinds), len(grids), row * len(grids) + column
                if kind == "contour":
                    axes: Any = figure.add_subplot(*place)
                    filled = contour(axes, x, y, heights, colour_map)
                    flat_trails(axes, grid, legend=[t.name for t in grid.trails] != [title])
                    flat.append(axes)
                else:
                    axes = figure.add_subplot(*place, projection="3d")
                    raised(axes, x, y, heights, name, colour_map, grid)
                if row == 0:
                    axes.set_title(title)
                across, up = grid.labels()
                if kind == "3d":
                    across, up = short(across), short(up)
                axes.set_xlabel(across)
                axes.set_ylabel(up if column == 1 or kind == "3d" or up != across else "")
        if filled is not None:
            colour_bar(filled, flat, whole, name)
        notes = [f"one scale; {text}" if k == 0 else text for k, text in enumerate(whole.notes)]
        notes += [
            f"{title}: {grid.evaluated} of {len(grid.x) * len(grid.y)} points evaluated"
            for title, grid in grids.items()
            if not grid.complete
        ]
        note(figure, notes)
    return figure
