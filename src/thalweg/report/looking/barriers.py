"""The page of barriers layer by layer."""

from __future__ import annotations

import math
from typing import Any

from thalweg.landscape import LayerBarriers
from thalweg.report.figure import Figure, Spec, axis, colour, text
from thalweg.report.look import colour_name
from thalweg.report.looking.parts import LEGEND, Rows, page_of
from thalweg.report.numbers import metric_format, number


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
    return page_of("Barriers by layer", headline, finding, figure, rows, (head, body))


def _of(result: LayerBarriers, layers: tuple[str, ...]) -> list[float]:
    groups = [result.barriers, *([result.controls] if result.controls else [])]
    return [
        next((b.barrier for b in some if b.layers == layers and b.host == host), math.nan)
        for some in groups
        for host in result.names
    ]
