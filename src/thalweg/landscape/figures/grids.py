"""Surfaces and planes: contours and their 3D view, with trajectories and marks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from scipy.interpolate import RegularGridInterpolator

from thalweg.core.errors import UsageError, did_you_mean
from thalweg.landscape.figures.families import LOSS, families
from thalweg.landscape.figures.heights import Heights, Scale
from thalweg.landscape.figures.style import COLOURS, drawing, note

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from thalweg.landscape.grid import Grid

View = Literal["contour", "3d", "both"]
VIEWS: tuple[View, ...] = get_args(View)


def draw_grid(
    grid: Grid,
    path: str | os.PathLike[str] | None,
    labels: tuple[str, str],
    *,
    view: View = "both",
    scale: Scale = "auto",
    clip: float | None = None,
    colour_map: str = "viridis",
) -> Figure:
    """Draw a grid, metrics as contours alone beside each other; see `Grid.plot`."""
    if view not in VIEWS:
        raise UsageError(f'unknown view "{view}".{did_you_mean(view, VIEWS)}')
    columns, rows = grid.finest()
    if len(columns) < 2 or len(rows) < 2:
        raise UsageError(
            f"only {grid.evaluated} points are evaluated, which is not the coarsest grid yet"
        )
    x, y = np.array(grid.x)[columns], np.array(grid.y)[rows]
    notes, cells = [], []
    for kind, quantities in families(grid.losses, grid.also).items():
        for name, losses in quantities.items():
            how: Any = (scale, clip) if kind == LOSS else ("linear", None)
            heights = Heights(np.array(losses)[np.ix_(rows, columns)], *how)
            notes += [f"{name}: {text}" for text in heights.notes]
            both = view == "both" and kind == LOSS
            shown = ("contour", "3d") if both else ("3d" if view == "3d" else "contour",)
            cells += [(name, heights, one) for one in shown]
    across = min(2, len(cells))
    down = -(-len(cells) // across)
    with drawing((4.2 * across, 3.4 * down + 0.2), path) as figure:
        for place, (name, heights, shown) in enumerate(cells, 1):
            if shown == "contour":
                axes = figure.add_subplot(down, across, place)
                filled = contour(axes, x, y, heights, colour_map)
                colour_bar(filled, axes, heights, name)
                flat_trails(axes, grid)
            else:
                axes = figure.add_subplot(down, across, place, projection="3d")
                raised(axes, x, y, heights, name, colour_map, grid)
            written = labels if shown == "contour" else tuple(map(short, labels))
            axes.set_xlabel(written[0])
            axes.set_ylabel(written[1])
        if not grid.complete:
            notes.append(
                f"coarse grid of {len(columns)} x {len(rows)}: {grid.evaluated} of "
                f"{len(grid.x) * len(grid.y)} points evaluated"
            )
        notes += [f"{t.name} up to {max(t.residuals):.3g} off the plane" for t in grid.trails]
        notes += [f"{m.name} {m.residual:.3g} off the plane" for m in grid.marks]
        note(figure, notes)
    return figure


def short(label: str) -> str:
    """Return an axis' label without what is in parentheses."""
    return label.partition(" (")[0]


def _norm(heights: Heights) -> Any:
    from matplotlib.colors import LogNorm, Normalize

    return (LogNorm if heights.log else Normalize)(*heights.levels()[[0, -1]])


def contour(axes: Any, x: Any, y: Any, heights: Heights, colour_map: str) -> Any:
    """Draw filled contours; return them."""
    levels, norm = heights.levels(), _norm(heights)
    values = np.ma.masked_invalid(heights.values)
    # Filled in many steps: colour is read as continuous, lines as levels.
    fine = heights.levels(96)
    filled = axes.contourf(x, y, values, fine, norm=norm, cmap=colour_map, extend="max")
    filled.set_edgecolor("face")
    axes.contour(x, y, values, levels, colors="white", linewidths=0.4, alpha=0.6)
    return filled


def colour_bar(filled: Any, axes: Any, heights: Heights, name: str, **words: Any) -> None:
    """Draw what the colours mean."""
    label = f"{name} (log scale)" if heights.log else name
    figure = filled.axes.figure
    bar = figure.colorbar(filled, ax=axes, label=label, **words)
    bar.ax.minorticks_off()
    ticks = heights.levels(5)
    bar.set_ticks(ticks.tolist(), labels=[f"{tick:.3g}" for tick in ticks])


def flat_trails(axes: Any, grid: Grid, legend: bool = True) -> None:
    """Draw trajectories, curves and marked points over contours."""
    for place, trail in enumerate(grid.trails):
        colour = COLOURS[(place + 1) % len(COLOURS)]
        axes.plot(trail.x, trail.y, color="white", linewidth=2.8)
        if trail.smooth:
            axes.plot(trail.x, trail.y, color=colour, label=trail.name)
            continue
        axes.plot(trail.x, trail.y, ".-", color=colour, markersize=4, label=trail.name)
        axes.plot(trail.x[-1:], trail.y[-1:], "*", color=colour, markersize=9, mec="white")
    for name, x, y in points(grid):
        axes.plot([x], [y], "o", color="white", markeredgecolor="black", markersize=6)
        # Below the point, but not over the edge.
        (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
        share = (x - left) / (right - left)
        above = (y - low) / (high - low) < 0.12
        axes.annotate(
            name,
            (x, y),
            xytext=(0, 6 if above else -6),
            textcoords="offset points",
            ha="left" if share < 0.1 else "right" if share > 0.9 else "center",
            va="bottom" if above else "top",
            color="white",
            fontsize=8,
        )
    if grid.trails and legend:
        axes.legend(loc="upper right", labelcolor="white")


def points(grid: Grid) -> list[tuple[str, float, float]]:
    """Return all that is marked on a grid: projected points, or the solutions it goes through."""
    marked = [(mark.name, mark.x, mark.y) for mark in grid.marks]
    return marked + [(name, x, y) for name, (x, y) in grid.through().items()]


def raised(
    axes: Any, x: Any, y: Any, heights: Heights, name: str, colour_map: str, grid: Grid
) -> None:
    """Draw in 3D; matplotlib has no logarithmic z axis, so heights are logarithms themselves."""
    z = heights.drawn(heights.values)
    axes.computed_zorder = False
    across, up = np.meshgrid(x, y)
    low, high = heights.drawn(heights.levels()[[0, -1]])
    axes.set_zlim(low, high)
    axes.plot_surface(
        across,
        up,
        z,
        cmap=colour_map,
        vmin=low,
        vmax=high,
        rstride=1,
        cstride=1,
        linewidth=0,
        antialiased=True,
    )
    at = RegularGridInterpolator((y, x), z, bounds_error=False)
    for place, trail in enumerate(grid.trails):
        height = at(np.stack([trail.y, trail.x], 1))
        colour = COLOURS[(place + 1) % len(COLOURS)]
        style = "-" if trail.smooth else ".-"
        axes.plot(trail.x, trail.y, height, style, color=colour, markersize=3, zorder=10)
    for _, i, j in points(grid):
        axes.scatter([i], [j], at([(j, i)]), color="white", edgecolor="black", zorder=11)
    axes.set_zlabel(f"log10 of {name}" if heights.log else name)
    axes.view_init(elev=32, azim=-58)
    # The layout does not see what is written around axes in space: keep it near.
    axes.tick_params(pad=-1, labelsize=6)
    axes.xaxis.labelpad = axes.yaxis.labelpad = axes.zaxis.labelpad = -4
    axes.set_box_aspect(None, zoom=0.9)
