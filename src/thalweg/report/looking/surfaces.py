"""What the page of surfaces shows: the losses to the bit, and their numbers for readers."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from thalweg.core.errors import UsageError, did_you_mean
from thalweg.landscape import Grid, Plane, Surface
from thalweg.landscape.bending import bending
from thalweg.landscape.colour_maps import NAMES, colour_map
from thalweg.landscape.figures.families import LOSS, kind_of
from thalweg.landscape.figures.heights import Heights, Scale
from thalweg.report import look as page_look
from thalweg.report.figure import Spec
from thalweg.report.numbers import integer, number

LOOKS = {
    "paper": "Paper",
    "studio": "Studio",
    "mesh": "Grid points",
    "relief": "Relief",
    "night": "Night",
}
"""How surfaces are lit and drawn, from plain to dramatic; the page's script has their numbers."""

MAPS = {"viridis": "Viridis", "cividis": "Cividis", "tarn": "Tarn", "ember": "Ember"}

_PLANES = {
    "filter": "a plane of two random directions, scaled filter by filter",
    "layer": "a plane of two random directions, scaled layer by layer",
    "adaptive": "a plane of two random directions, scaled with the weights",
    "none": "a plane of two random directions",
    "hessian": "the plane of two eigenvectors of the Hessian",
    "trajectory": "the plane that shows most of a trajectory",
    "given": "a given plane",
}


def build(
    grids: Mapping[str, Grid],
    *,
    scale: Scale,
    clip: float | None,
    look: str,
    colours: str | None,
    file: str,
) -> dict[str, Any]:
    """Return the sections of the page; see `thalweg.report.write_landscape`."""
    if look not in LOOKS:
        raise UsageError(f'unknown look "{look}".{did_you_mean(look, LOOKS)}')
    if colours is not None:
        colour_map(colours)
    panels = [panel for name, grid in grids.items() for panel in _panels(name, grid, len(grids))]
    losses = [panel["values"].ravel() for panel in panels if panel["kind"] == LOSS]
    together = np.concatenate(losses)
    heights = Heights(together, scale, clip)
    for place, panel in enumerate(panels):
        panel["colour"] = page_look.colour_name(place)
        panel["swatch"] = page_look.swatch(place)
        panel["dash"] = [[], [6, 3], [2, 3], [6, 2, 2, 2]][place % 4]
    data: Spec = {
        "surfaces": [panel["data"] | {k: panel[k] for k in ("colour", "dash")} for panel in panels],
        "maps": {name: colour_map(name).tobytes().hex() for name in NAMES},
        "tokens": page_look.TOKENS,
        "state": {"log": heights.log, "clip": clip, "look": look, "map": colours},
        "file": file,
    }
    return {
        "data": data,
        "panels": [
            {key: panel[key] for key in ("name", "kind", "note", "swatch")} for panel in panels
        ],
        "headline": _headline(grids, together),
        "plane": _plane_of(grids),
        "looks": LOOKS,
        "maps": MAPS,
        "log": heights.log,
        "look": look,
        "numbers": [_row(panel) for panel in panels],
        "places": [row for panel in panels for row in _places(panel)],
        "trails": [row for name, grid in grids.items() for row in _trails(name, grid, len(grids))],
        "facts": [fact for name, grid in grids.items() for fact in _facts(name, grid, len(grids))],
    }


def _panels(name: str, grid: Grid, count: int) -> list[dict[str, Any]]:
    columns, rows = grid.finest()
    if len(columns) < 2 or len(rows) < 2:
        raise UsageError(
            f"only {grid.evaluated} points are evaluated, which is not the coarsest grid yet"
        )
    x, y = np.array(grid.x)[columns], np.array(grid.y)[rows]
    g = grid.gram()
    labels = grid.labels()
    short = [label.split(" (")[0] for label in labels]
    if short[0] == short[1]:
        short = ["distance across", "distance up"]
    marks = [(m.name, m.x, m.y, m.residual) for m in grid.marks]
    marks += [(mark, *at, 0.0) for mark, at in grid.through().items()]
    found = []
    for quantity, losses in {LOSS: grid.losses, **grid.also}.items():
        values = np.array(losses)[np.ix_(rows, columns)]
        called = "train loss" if quantity == LOSS and "test loss" in grid.also else quantity
        full = called if count == 1 else f"{name}, {called}" if grid.also else name
        found.append(
            {
                "name": full,
                "quantity": quantity,
                "kind": kind_of(quantity),
                "grid": grid,
                "x": x,
                "y": y,
                "values": values,
                "marks": marks,
                "note": _note(grid, x, y),
                "data": {
                    "name": full,
                    "group": name,
                    "quantity": quantity,
                    "kind": kind_of(quantity),
                    "unit": called,
                    "x": _binary(x),
                    "y": _binary(y),
                    "losses": _binary(values),
                    "labels": labels,
                    "axes": short,
                    "lengths": [math.sqrt(g[0]), math.sqrt(g[2])],
                    "metric": g,
                    "marks": [dict(zip(("name", "x", "y"), mark, strict=False)) for mark in marks],
                    "trails": [
                        {
                            "name": trail.name,
                            "x": trail.x,
                            "y": trail.y,
                            "colour": page_look.colour_name(place + 5),
                        }
                        for place, trail in enumerate(grid.trails)
                    ],
                },
            }
        )
    return found


def _binary(values: np.ndarray) -> str:
    """Return float64 as base64, which the page reads without loss; NaN and infinities too."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f8").tobytes()).decode()


def _note(grid: Grid, x: np.ndarray, y: np.ndarray) -> str:
    size = f"{len(x)} by {len(y)} grid points"
    if grid.complete:
        return size
    done, total = integer(grid.evaluated), integer(len(grid.x) * len(grid.y))
    return f"{size}, the finest finished grid: {done} of {total} points are evaluated"


def _headline(grids: Mapping[str, Grid], values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    if len(grids) > 1:
        low, high = number(float(finite.min())), number(float(finite.max()))
        return f"{', '.join(grids)} on one scale, from {low} to {high}"
    (grid,) = grids.values()
    low, high = number(float(finite.min())), number(float(finite.max()))
    kinds = [kind_of(name) for name in grid.also]
    what = "Losses" if LOSS in kinds else "Loss"
    return f"{what} from {low} to {high}"


def _plane_of(grids: Mapping[str, Grid]) -> str:
    kinds = []
    for grid in grids.values():
        if isinstance(grid, Surface):
            kinds.append(_PLANES[grid.kind])
        elif isinstance(grid, Plane):
            one, two, three = grid.names
            kinds.append(f"the plane through {one}, {two} and {three}")
    return " and ".join(dict.fromkeys(kinds))


def _row(panel: dict[str, Any]) -> list[str]:
    values = panel["values"]
    finite = np.where(np.isfinite(values), values, np.nan)
    j, i = np.unravel_index(np.nanargmin(finite), values.shape)
    return [
        panel["name"],
        number(float(finite[j, i]), 4),
        f"({number(float(panel['x'][i]))}, {number(float(panel['y'][j]))})",
        number(float(np.nanmedian(finite)), 4),
        number(float(np.nanmax(finite)), 4),
        integer(values.size),
        integer(int(np.isnan(values).sum())),
        integer(int(np.isinf(values).sum())),
    ]


def _places(panel: dict[str, Any]) -> list[list[str]]:
    rows = []
    for name, x, y, residual in panel["marks"] or [("origin", 0.0, 0.0, 0.0)]:
        i, j = (int(np.abs(axis - at).argmin()) for axis, at in ((panel["x"], x), (panel["y"], y)))
        inside = panel["x"][0] <= x <= panel["x"][-1] and panel["y"][0] <= y <= panel["y"][-1]
        grid: Grid = panel["grid"]
        bent = (
            bending(grid, float(panel["x"][i]), float(panel["y"][j]), panel["quantity"])
            if inside
            else None
        )
        rows.append(
            [
                f"{name}, {panel['name']}",
                f"({number(x)}, {number(y)})",
                number(float(panel["values"][j, i]), 4) if inside else "outside",
                "unknown" if bent is None else " and ".join(number(v) for v in bent.values),
                number(residual),
            ]
        )
    return rows


def _trails(name: str, grid: Grid, count: int) -> list[list[str]]:
    return [
        [
            trail.name if count == 1 else f"{trail.name}, {name}",
            integer(len(trail.steps)),
            f"{integer(trail.steps[0])} to {integer(trail.steps[-1])}",
            f"({number(trail.x[-1])}, {number(trail.y[-1])})",
            number(max(trail.residuals)),
        ]
        for trail in grid.trails
    ]


def _facts(name: str, grid: Grid, count: int) -> list[tuple[str, str]]:
    facts = [] if count == 1 else [("Surface", name)]
    facts.append(("Axes", f"across: {grid.labels()[0]}; up: {grid.labels()[1]}"))
    if isinstance(grid, Surface):
        facts.append(("Lengths", " and ".join(number(norm) for norm in grid.norms)))
        facts.append(("Cosine between", number(grid.cosine)))
    facts.append(("Batch norm", grid.batch_norm))
    return facts
