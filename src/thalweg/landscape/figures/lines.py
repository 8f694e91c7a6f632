"""Losses along lines and curves, barriers by layer, and spectral densities."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.landscape.figures.heights import Heights, Scale
from thalweg.landscape.figures.style import COLOURS, drawing, note

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from thalweg.landscape.curvature.density import SpectralDensity
    from thalweg.landscape.layers import LayerBarriers


def draw_line(
    positions: Sequence[float],
    losses: Sequence[float],
    path: str | os.PathLike[str] | None,
    *,
    label: str,
    title: str = "",
    scale: Scale = "auto",
    clip: float | None = None,
    ends: tuple[str, str] | None = None,
) -> Figure:
    """Draw losses against positions; the two ends are marked by name if there are names."""
    heights = Heights(np.array(losses), scale, clip)
    with drawing((4.2, 3.0), path) as figure:
        axes = figure.add_subplot()
        axes.plot(positions, heights.values, color=COLOURS[0])
        if ends is not None:
            for name, k, align in zip(ends, (0, -1), ("left", "right"), strict=True):
                axes.plot([positions[k]], [heights.values[k]], "o", color=COLOURS[1])
                axes.annotate(
                    name,
                    (positions[k], heights.values[k]),
                    xytext=(0, 6),
                    textcoords="offset points",
                    ha=align,
                )
        _finish(axes, heights, label, title)
        note(figure, heights.notes)
    return figure


def _finish(axes: Any, heights: Heights, label: str, title: str) -> None:
    axes.set_xlabel(label)
    axes.set_ylabel("loss (log scale)" if heights.log else "loss")
    axes.set_title(title)
    if heights.log:
        axes.set_yscale("log")
    axes.margins(y=0.12)


def draw_barriers(result: LayerBarriers, path: str | os.PathLike[str] | None) -> Figure:
    """Draw the barrier of each set of layers, a bar for each host; controls are hollow."""
    sets = list(dict.fromkeys(one.layers for one in result.barriers))
    growing = result.order != "single"
    names = [f"+ {one[-1]}" if growing and k else ", ".join(one) for k, one in enumerate(sets)]
    height = 1.2 + 0.22 * len(sets) * (2 if result.controls else 1)
    missing = sum(math.isnan(one.barrier) for one in (*result.barriers, *result.controls))
    with drawing((4.6, height), path) as figure:
        axes = figure.add_subplot()
        groups = [(result.barriers, "", {})]
        if result.controls:
            groups.append((result.controls, ", random control", {"fill": False}))
        width = 0.8 / (2 * len(groups))
        for g, (some, suffix, style) in enumerate(groups):
            for h, host in enumerate(result.names):
                of = {one.layers: one.barrier for one in some if one.host == host}
                place = np.arange(len(sets)) + (2 * g + h) * width - 0.4 + width / 2
                colour = {"color": COLOURS[h]} if not style else {"edgecolor": COLOURS[h]}
                axes.barh(
                    place,
                    [of[one] for one in sets],
                    width,
                    label=f"in {host}{suffix}",
                    **colour,
                    **style,
                )
        axes.set_yticks(range(len(sets)), names)
        axes.invert_yaxis()
        axes.axvline(0, color="black", linewidth=0.6)
        axes.set_xlabel("barrier: loss above the mean of both solutions")
        axes.legend()
        note(figure, [f"{missing} barriers are NaN and left out"] if missing else [])
    return figure


def draw_density(
    result: SpectralDensity,
    path: str | os.PathLike[str] | None,
    width: float | None = None,
) -> Figure:
    """Draw the density with a band of two standard errors, on a logarithmic scale."""
    x, density, error = (part.numpy() for part in result.curve(width=width))
    floor = max(float(density.max()) * 1e-7, 1e-300)
    probes = len(result.nodes)
    texts = [f"density below {floor:.1g} is not shown", f"{probes} probes"]
    with drawing((4.6, 3.0), path) as figure:
        axes = figure.add_subplot()
        if probes > 1:
            low, high = (np.maximum(density + s * 2 * error, floor) for s in (-1, 1))
            axes.fill_between(x, low, high, color=COLOURS[0], alpha=0.25, linewidth=0)
            texts.append("band: two standard errors over probes")
        axes.plot(x, np.maximum(density, floor), color=COLOURS[0])
        axes.set_yscale("log")
        axes.set_ylim(floor, float(density.max()) * 3)
        axes.set_xlabel("eigenvalue")
        axes.set_ylabel("density (log scale)")
        note(figure, texts)
    return figure
