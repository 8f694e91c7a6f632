"""The learning curves of the live page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from thalweg.race.rows import CurvePoint
from thalweg.report import look
from thalweg.report.curve import Value, height, shared_points, target_line
from thalweg.report.figure import (
    Figure,
    Spec,
    axis,
    colour,
    text,
    wants_log,
)
from thalweg.report.numbers import integer, number


@dataclass(frozen=True)
class Line:
    """One line of the figures.

    Attributes:
        index: the entrant's place, which decides how it is drawn.
        label: the entrant's label.
        what: which of its runs.
        curves: the runs' curves; the line is their mean where all have a value.
        live: whether the run is under way.
    """

    index: int
    label: str
    what: str
    curves: Sequence[Sequence[CurvePoint]]
    live: bool


def figures(
    lines: Sequence[Line], metric: str, higher: bool, target: float | None
) -> dict[str, Spec]:
    """Return both figures, of the metric and of the training loss, by id."""
    whole = _figure("curve-metric", lines, metric, lambda p: p.metric, higher, target)
    loss = _figure("curve-loss", lines, "training loss", lambda p: p.train_loss, False, None)
    return {"curve-metric": whole.spec(), "curve-loss": loss.spec()}


def _figure(
    figure_id: str,
    lines: Sequence[Line],
    what: str,
    value: Value,
    higher: bool,
    target: float | None,
) -> Figure:
    traces, values = [], []
    for line in lines:
        points = _mean(line, value)
        if points:
            traces.append(_trace(line, points))
            values += [y for _, y in points]
    layout: Spec = {
        "xaxis": axis("training steps", rangemode="tozero"),
        "yaxis": axis(text(what)),
        "hovermode": "closest",
    }
    if values:
        logarithmic = not higher and wants_log(values)
        layout["yaxis"] = height(what, values, target, logarithmic)
    if target is not None and values:
        layout["shapes"] = [target_line(target)]
    return Figure(figure_id, what, traces, layout, phone={"height": 300})


def _mean(line: Line, value: Value) -> list[tuple[int, float]]:
    points = shared_points(line.curves, value) or []
    return [(here[0].step, fmean(map(value, here))) for here in points]


def _trace(line: Line, points: Sequence[tuple[int, float]]) -> dict[str, Any]:
    name = look.colour_name(line.index)
    last = len(points) - 1
    return {
        "x": [step for step, _ in points],
        "y": [y for _, y in points],
        "customdata": [[number(y, 4), f"step {integer(s)}, {text(line.what)}"] for s, y in points],
        "name": text(line.label),
        "type": "scatter",
        "mode": "lines+markers",
        "line": {
            "color": colour(name, 0.75 if line.live else 1.0),
            "width": 1.4 if line.live else 2.4,
            "dash": look.dash(line.index),
        },
        # A run under way ends in an open marker: it goes on from there.
        "marker": {
            "symbol": f"{look.symbol(line.index)}-open" if line.live else look.symbol(line.index),
            "size": [9 if i == last else 1 for i in range(len(points))] if line.live else 6,
            **({} if line.live else {"maxdisplayed": 8}),
        },
        "hovertemplate": "<b>%{customdata[0]}</b> %{fullData.name}<br>%{customdata[1]}"
        "<extra></extra>",
        "meta": {"entrant": line.index},
    }
