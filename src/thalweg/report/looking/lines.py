"""The page of losses along a line, a slice or a curve."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from thalweg.landscape import CurveProfile, Line, Slice
from thalweg.landscape.along import Along
from thalweg.landscape.figures.families import LOSS, families
from thalweg.landscape.figures.heights import Heights, Scale
from thalweg.report.figure import Figure, Spec, axis, colour, linear_range, log_range, text
from thalweg.report.look import colour_name
from thalweg.report.looking.parts import LEGEND, Rows, page_of
from thalweg.report.numbers import integer, metric_format, number


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
    return page_of("Loss along a way", headline, finding, figure, rows, table)


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
