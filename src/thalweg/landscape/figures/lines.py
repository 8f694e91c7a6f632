"""Losses along lines and curves, barriers by layer, and spectral densities."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.landscape.figures.families import LOSS, families
from thalweg.landscape.figures.heights import Heights, Scale
from thalweg.landscape.figures.style import COLOURS, drawing, note

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from thalweg.landscape.curvature.density import SpectralDensity
    from thalweg.landscape.curvature.eigenpairs import Eigenpairs
    from thalweg.landscape.layers import LayerBarrier, LayerBarriers

STYLES: Any = [
    {"color": colour, "linestyle": stroke}
    for colour, stroke in zip(COLOURS, ("-", "--", "-.", ":", "-", "--", "-."), strict=True)
]
"""Of series in one panel: told apart without colours too."""


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
    also: Mapping[str, Sequence[float]] | None = None,
) -> Figure:
    """Draw losses against positions, and each other kind of quantity in a panel of its own.

    The scale and the clip are those of losses. The two ends are marked by name if there are names.
    """
    kinds = families(losses, also or {})
    notes = []
    with drawing((4.2 * len(kinds), 3.0), path) as figure:
        for place, (kind, series) in enumerate(kinds.items(), 1):
            axes = figure.add_subplot(1, len(kinds), place)
            how = (scale, clip) if kind == LOSS else ("linear", None)
            heights = Heights(np.array(list(series.values())), *how)
            for name, values, style in zip(series, heights.values, STYLES, strict=False):
                axes.plot(positions, values, label=name, **style)
            if ends is not None:
                _name_ends(axes, positions, heights.values[0], ends)
            if len(series) > 1:
                axes.legend()
            axes.set_xlabel(label)
            axes.set_ylabel(f"{kind} (log scale)" if heights.log else kind)
            axes.set_title(title if kind == LOSS else "")
            if heights.log:
                axes.set_yscale("log")
            axes.margins(y=0.12)
            notes += heights.notes
        note(figure, notes)
    return figure


def _name_ends(axes: Any, positions: Any, values: Any, ends: tuple[str, str]) -> None:
    for name, k, align in zip(ends, (0, -1), ("left", "right"), strict=True):
        axes.plot([positions[k]], [values[k]], "o", color="black", markersize=4)
        axes.annotate(
            name,
            (positions[k], values[k]),
            xytext=(0, 6),
            textcoords="offset points",
            ha=align,
        )


def draw_barriers(result: LayerBarriers, path: str | os.PathLike[str] | None) -> Figure:
    """Draw the barrier of each set of layers, a bar for each host; controls are hollow.

    Each other quantity has a panel of its own, with its largest change.
    """
    labels = result.labels()
    sets, names = list(labels), list(labels.values())
    height = 1.2 + 0.22 * len(sets) * (2 if result.controls else 1)
    panels: dict[str, Callable[[LayerBarrier], float]] = {
        "barrier: loss above the mean of both solutions": lambda one: one.barrier,
        **{
            f"change of {name} from the mean": partial(result.change, name=name)
            for name in result.also_ends
        },
    }
    missing = 0
    with drawing((4.6 + 2.6 * (len(panels) - 1), height), path) as figure:
        first = None
        for place, (label, measure) in enumerate(panels.items(), 1):
            axes = figure.add_subplot(1, len(panels), place, sharey=first)
            missing += _bars(axes, result, sets, measure)
            axes.axvline(0, color="black", linewidth=0.6)
            axes.set_xlabel(label)
            if first is None:
                first = axes
                axes.set_yticks(range(len(sets)), names)
                axes.invert_yaxis()
                axes.legend()
            else:
                axes.tick_params(labelleft=False)
        note(figure, [f"{missing} bars are NaN and left out"] if missing else [])
    return figure


def _bars(
    axes: Any,
    result: LayerBarriers,
    sets: Sequence[tuple[str, ...]],
    measure: Callable[[LayerBarrier], float],
) -> int:
    """Draw a bar for each set of layers and host; return how many are NaN."""
    groups: Any = [(result.barriers, "", {})]
    if result.controls:
        groups.append((result.controls, ", random control", {"fill": False}))
    width, missing = 0.8 / (2 * len(groups)), 0
    for g, (some, suffix, style) in enumerate(groups):
        for h, host in enumerate(result.names):
            of = {one.layers: measure(one) for one in some if one.host == host}
            missing += sum(math.isnan(value) for value in of.values())
            place = np.arange(len(sets)) + (2 * g + h) * width - 0.4 + width / 2
            colour = {"color": COLOURS[h]} if not style else {"edgecolor": COLOURS[h]}
            label = f"in {host}{suffix}"
            axes.barh(place, [of[one] for one in sets], width, label=label, **colour, **style)
    return missing


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


def draw_eigenvalues(result: Eigenpairs, path: str | os.PathLike[str] | None) -> Figure:
    """Draw eigenvalues by rank; bars reach as far as their residuals."""
    values, residuals = result.values.numpy(force=True), result.residuals.numpy(force=True)
    with drawing((4.2, 3.0), path) as figure:
        axes = figure.add_subplot()
        rank = np.arange(1, len(values) + 1)
        axes.errorbar(rank, values, residuals, fmt="o", color=COLOURS[0], capsize=3, markersize=4)
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set_xticks(rank)
        axes.set_xlabel("rank")
        axes.set_ylabel("eigenvalue")
        ended = "" if result.converged else ", which did not converge"
        note(figure, [f"bars: residuals after {result.products} products{ended}"])
    return figure
