"""Figures of losses along a way, of barriers by layer and of spectral densities."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from thalweg.landscape import CurveProfile, LayerBarriers, Line, Slice
from thalweg.landscape.along import Along
from thalweg.landscape.curvature import SpectralDensity
from thalweg.landscape.figures.families import LOSS, families
from thalweg.landscape.figures.heights import Heights, Scale
from thalweg.report.figure import Figure, Spec, axis, colour, linear_range, log_range, text
from thalweg.report.look import colour_name
from thalweg.report.numbers import integer, metric_format, number

Rows = list[tuple[str, str]]

LEGEND = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}


def along(result: Along, scale: Scale, clip: float | None) -> dict[str, Any]:
    """Return the page of losses along a line, a slice or a curve."""
    way = result.way()
    kinds = families(result.losses, result.also)
    curves = kinds.pop(LOSS)
    heights = Heights(np.array(list(curves.values())), scale, clip)
    losses = np.array(result.losses)
    form = metric_format(losses[np.isfinite(losses)].tolist())
    drawn = [
        [float(v) if math.isfinite(v) else None for v in row] for row in heights.values.tolist()
    ]
    data: list[Spec] = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": text(name),
            "x": list(way["positions"]),
            "y": row,
            "customdata": [form(v) for v in values],
            "hovertemplate": f"{text(name)} <b>%{{customdata}}</b><br>{text(way['label'])} "
            "%{x:.4g}<extra></extra>",
            "line": {"color": colour(colour_name(k)), "width": 2.4},
            "marker": {"size": 5, "color": colour(colour_name(k))},
            "connectgaps": False,
            "showlegend": len(curves) > 1,
        }
        for k, ((name, values), row) in enumerate(zip(curves.items(), drawn, strict=True))
    ]
    shown = drawn[0]
    if way["ends"] is not None:
        for name, k in zip(way["ends"], (0, -1), strict=True):
            data.append(
                {
                    "type": "scatter",
                    "mode": "markers+text",
                    "x": [way["positions"][k]],
                    "y": [shown[k]],
                    "text": [text(name)],
                    "textposition": "top right" if k == 0 else "top left",
                    "textfont": {"size": 13, "color": colour("ink")},
                    "hovertemplate": f"{text(name)}: loss <b>{form(losses[k])}</b><extra></extra>",
                    "marker": {
                        "size": 13,
                        "color": colour(colour_name(5)),
                        "line": {"width": 2, "color": colour("surface")},
                    },
                    "cliponaxis": False,
                    "showlegend": False,
                }
            )
    finite = [v for row in drawn for v in row if v is not None]
    log = {"type": "log", "range": log_range(finite, 0.12)} if heights.log else {}
    figure = Figure(
        id="along",
        title="",
        data=data,
        layout={
            "xaxis": axis(way["label"]),
            "yaxis": axis("loss (log scale)" if heights.log else "loss", **log)
            | ({} if log else {"range": linear_range(finite, 0.12)}),
            "hovermode": "closest",
            "showlegend": len(curves) > 1,
            "legend": LEGEND,
        },
        height=460,
        note=" ".join(f"{note[0].upper()}{note[1:]}." for note in heights.notes),
    )
    lowest = int(np.nanargmin(np.where(np.isfinite(losses), losses, np.nan)))
    rows: Rows = [
        ("Lowest loss", f"{form(losses[lowest])} at {number(way['positions'][lowest])}"),
        ("Highest finite loss", form(max(v for v in losses.tolist() if math.isfinite(v)))),
        ("Loss at the start", form(losses[0])),
        ("Loss at the end", form(losses[-1])),
        ("Points", integer(len(losses))),
        ("Batch norm", str(getattr(result, "batch_norm", "as it is"))),
    ]
    columns = curves | {name: values for kind in kinds.values() for name, values in kind.items()}
    forms = [metric_format([v for v in values if math.isfinite(v)]) for values in columns.values()]
    table = (
        [way["label"], *columns],
        [
            [number(x, 4), *(written(v) for written, v in zip(forms, row, strict=True))]
            for x, *row in zip(way["positions"], *columns.values(), strict=True)
        ],
    )
    headline, finding = _words(result)
    return _page("Loss along a way", headline, finding, figure, rows, table)


def _words(result: Along) -> tuple[str, str]:
    if isinstance(result, Line):
        one, other = result.names
        title = f"{one} to {other}: "
        if math.isnan(result.barrier):
            title += "a loss is not finite on the way"
        else:
            some = f"a barrier of {number(result.barrier)}"
            title += some if result.barrier > 0 else "no barrier"
        return title, f"On the straight line; {number(result.distance)} apart in weight space."
    if isinstance(result, CurveProfile):
        over = result.barrier
        title = f"{number(over)} above the worse end" if over > 0 else "Never above the worse end"
        if math.isnan(over):
            title = "A loss is not finite on the way"
        return title, "Along a trained curve, at most."
    if isinstance(result, Slice):
        return (
            f"Lowest loss {number(min(v for v in result.losses if math.isfinite(v)))}",
            f"Along one direction ({result.normalisation}), "
            f"{number(result.norm)} long in weight space.",
        )
    return "Loss along a way", ""


def barriers(result: LayerBarriers) -> dict[str, Any]:
    """Return the page of barriers layer by layer."""
    labels = result.labels()
    sets, names = list(labels), list(labels.values())
    values = [one.barrier for one in (*result.barriers, *result.controls)]
    form = metric_format([v for v in values if math.isfinite(v)])
    data: list[Spec] = []
    for some, suffix in ((result.barriers, ""), (result.controls, ", random control")):
        for place, host in enumerate(result.names):
            of = {one.layers: one.barrier for one in some if one.host == host}
            if not of:
                continue
            shade = colour(colour_name(place), 0.35 if suffix else 1.0)
            data.append(
                {
                    "type": "bar",
                    "orientation": "h",
                    "name": text(f"in {host}{suffix}"),
                    "y": [text(name) for name in names],
                    "x": [of[one] if math.isfinite(of[one]) else None for one in sets],
                    "customdata": [form(of[one]) for one in sets],
                    "hovertemplate": "%{y} %{fullData.name}: <b>%{customdata}</b><extra></extra>",
                    "marker": {"color": shade},
                }
            )
    figure = Figure(
        id="barriers",
        title="",
        data=data,
        layout={
            "xaxis": axis("barrier: loss above the mean of both solutions")
            | {"zeroline": True, "zerolinecolor": colour("strong-line")},
            "yaxis": axis("layers that are mixed") | {"type": "category", "autorange": "reversed"},
            "barmode": "group",
            "bargap": 0.3,
            "showlegend": True,
            "legend": LEGEND,
            "hovermode": "closest",
        },
        height=170 + 26 * len(sets) * (2 if result.controls else 1),
    )
    known = [one for one in result.barriers if math.isfinite(one.barrier)]
    worst = max(known, key=lambda one: one.barrier, default=None)
    headline = "No barrier is finite"
    if worst is not None:
        several = f"{len(worst.layers)} layers"
        layers = f"Layer {worst.layers[0]}" if len(worst.layers) == 1 else several
        headline = (
            f"{layers} of the other solution raise the loss of {worst.host} most, "
            f"by {number(worst.barrier)}"
        ).replace("raise", "raises" if len(worst.layers) == 1 else "raise")
        if worst.barrier <= 0:
            headline = "No layer costs anything when it is mixed"
    rows: Rows = [
        (f"Loss of {name}", form(loss))
        for name, loss in zip(result.names, result.ends, strict=True)
    ]
    rows += [("Order", result.order), ("Batch norm", str(result.batch_norm))]
    body = [
        [name, *(form(v) for v in _of(result, one))] for name, one in zip(names, sets, strict=True)
    ]
    head = ["layers", *(f"in {host}" for host in result.names)]
    if result.controls:
        head += [f"control in {host}" for host in result.names]
    finding = f"Layers of {result.names[0]} and {result.names[1]}, mixed a set at a time."
    return _page("Barriers by layer", headline, finding, figure, rows, (head, body))


def _of(result: LayerBarriers, layers: tuple[str, ...]) -> list[float]:
    groups = [result.barriers, *([result.controls] if result.controls else [])]
    return [
        next((b.barrier for b in some if b.layers == layers and b.host == host), math.nan)
        for some in groups
        for host in result.names
    ]


def density(result: SpectralDensity) -> dict[str, Any]:
    """Return the page of a spectral density."""
    x, values, errors = (part.numpy() for part in result.curve(points=1500))
    top = float(values.max())
    floor = max(top * 1e-7, 1e-300)
    probes = len(result.nodes)
    shown = np.maximum(values, floor)
    data: list[Spec] = []
    if probes > 1:
        low, high = (np.maximum(values + side * 2 * errors, floor) for side in (-1, 1))
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [*x.tolist(), *x[::-1].tolist()],
                "y": [*high.tolist(), *low[::-1].tolist()],
                "fill": "toself",
                "fillcolor": colour(colour_name(0), 0.2),
                "line": {"width": 0, "color": colour(colour_name(0), 0.2)},
                "hoverinfo": "skip",
            }
        )
    data.append(
        {
            "type": "scatter",
            "mode": "lines",
            "x": x.tolist(),
            "y": shown.tolist(),
            "customdata": [number(v) for v in values.tolist()],
            "hovertemplate": "density <b>%{customdata}</b> at %{x:.4g}<extra></extra>",
            "line": {"color": colour(colour_name(0)), "width": 1.8},
        }
    )
    figure = Figure(
        id="density",
        title="",
        data=data,
        layout={
            "xaxis": axis("eigenvalue"),
            "yaxis": axis(
                "density (log scale)", type="log", range=[math.log10(floor), math.log10(top * 3)]
            ),
            "hovermode": "closest",
        },
        height=460,
        note=f"Density below {number(floor, 1)} is not shown."
        + (" The band is two standard errors over probes." if probes > 1 else ""),
    )
    low, high = float(result.nodes.min()), float(result.nodes.max())
    rows: Rows = [
        ("Eigenvalues from", number(low, 4)),
        ("to", number(high, 4)),
        ("Trace", _with_error(result, lambda v: v)),
        ("Squared Frobenius norm", _with_error(result, lambda v: v.square())),
        ("Share below zero", number(result.mean(lambda v: (v < 0).double())[0])),
        ("Parameters", integer(result.size)),
        ("Probes", integer(probes)),
        ("Products", integer(result.products)),
    ]
    step = len(x) // 60
    body = [
        [number(float(a), 4), number(float(b)), number(float(c))]
        for a, b, c in zip(x[::step], values[::step], errors[::step], strict=True)
    ]
    table = (["eigenvalue", "density", "standard error"], body)
    headline = f"Eigenvalues from {number(low)} to {number(high)}"
    finding = f"The spectral density of the Hessian in {integer(result.size)} dimensions."
    return _page("Spectral density", headline, finding, figure, rows, table)


def _with_error(result: SpectralDensity, function: Any) -> str:
    mean, error = result.mean(function)
    value = number(mean * result.size, 4)
    return value if math.isnan(error) else f"{value} ± {number(error * result.size, 2)}"


def _page(
    kind: str,
    headline: str,
    finding: str,
    figure: Figure,
    rows: Rows,
    table: tuple[Sequence[str], Sequence[Sequence[str]]],
) -> dict[str, Any]:
    return {
        "kind": kind,
        "headline": headline,
        "finding": finding,
        "figure": dataclasses.replace(figure, title=headline),
        "rows": rows,
        "columns": table[0],
        "body": table[1],
    }
