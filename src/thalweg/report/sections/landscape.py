"""The loss between the best solutions: a map and three walks."""

import math
from collections.abc import Sequence
from typing import Any

from thalweg.landscape import Line, Plane
from thalweg.race.rows import RunRow
from thalweg.report import look
from thalweg.report.facts import Entrant, Race
from thalweg.report.figure import Figure, Spec, axis, colour, linear_range, log_range, text
from thalweg.report.numbers import integer, metric_format, number
from thalweg.report.terrain import Terrain

POLICIES = {
    "recalibrate": "running statistics recomputed on the same samples at every point "
    "(policy “recalibrate”)",
    None: "the model keeps no running statistics, so no policy is needed",
}


def build(race: Race, terrain: Terrain) -> dict[str, Any]:
    """Return the map, the lines, and what they are of."""
    solutions = [_Solution(race, row, terrain.runs) for row in terrain.runs]
    by_run = {solution.row.run_id: solution for solution in solutions}
    return {
        "reason": terrain.reason,
        "plane": _plane(terrain.plane, by_run) if terrain.plane else None,
        "lines": _lines(terrain.lines, by_run),
        "title": _title(terrain, by_run),
        "samples": integer(terrain.samples),
        "grid": "" if terrain.plane is None else _grid(terrain.plane),
        "batch_norm": POLICIES[terrain.batch_norm] if terrain.lines else "",
        "solutions": [
            {
                "label": solution.label,
                "swatch": look.swatch(solution.entrant.index),
                "metric": race.metric(solution.row.final_metric),
            }
            for solution in solutions
        ],
        "metric_name": race.metric_name,
    }


class _Solution:
    """A final run as the landscape shows it."""

    def __init__(self, race: Race, row: RunRow, runs: Sequence[RunRow]) -> None:
        self.row = row
        self.entrant: Entrant = next(e for e in race.entrants if e.name == row.entrant)
        several = sum(one.entrant == row.entrant for one in runs) > 1
        self.label = self.entrant.label + (f", seed {row.seed}" if several else "")
        self.colour = look.colour_name(self.entrant.index)
        self.symbol = look.symbol(self.entrant.index)


def _grid(plane: Plane) -> str:
    return f"{len(plane.x)} by {len(plane.y)}"


def _plane(plane: Plane, by_run: dict[str, _Solution]) -> Figure:
    flat = [loss for row in plane.losses for loss in row]
    finite = [loss for loss in flat if math.isfinite(loss)]
    scale = _Scale(finite)
    form = metric_format(finite)
    names = [by_run[run_id] for run_id in plane.names]
    x, y = zip(*plane.coordinates, strict=True)
    surface: Spec = {
        "type": "contour",
        "x": plane.x,
        "y": plane.y,
        "z": [[scale.height(loss) for loss in row] for row in plane.losses],
        "customdata": [[form(loss) for loss in row] for row in plane.losses],
        "hovertemplate": "loss <b>%{customdata}</b><extra></extra>",
        "colorscale": [[i / 4, colour(f"depth-{i}")] for i in range(5)],
        "contours": {"coloring": "heatmap", "showlines": True},
        "ncontours": 22,
        "line": {"width": 0.6, "color": colour("ink", 0.35), "smoothing": 0.6},
        "colorbar": {
            "title": {"text": "loss", "side": "top"},
            "orientation": "h",
            "len": 0.8,
            "y": 1.01,
            "yanchor": "bottom",
            **scale.ticks(),
        },
        "connectgaps": False,
    }
    edges: Spec = {
        "type": "scatter",
        "mode": "lines",
        "x": [*x, x[0]],
        "y": [*y, y[0]],
        "line": {"color": colour("surface", 0.85), "width": 1.4, "dash": "dot"},
        "hoverinfo": "skip",
    }
    # A disc in the page's colour behind each marker, so that it stands out from any depth.
    discs: Spec = {
        "type": "scatter",
        "mode": "markers",
        "x": x,
        "y": y,
        "marker": {"size": 24, "color": colour("surface"), "opacity": 0.95},
        "hoverinfo": "skip",
    }
    marks = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [at[0]],
            "y": [at[1]],
            "name": text(solution.label),
            "marker": {
                "symbol": solution.symbol,
                "size": 14,
                "color": colour(solution.colour),
                "opacity": 1,
            },
            "customdata": [form(loss)],
            "hovertemplate": "%{fullData.name}: loss <b>%{customdata}</b><extra></extra>",
            "meta": {"entrant": solution.entrant.index, "always": True},
        }
        for solution, at, loss in zip(names, plane.coordinates, plane.solutions, strict=True)
    ]
    ratio = (plane.y[-1] - plane.y[0]) / (plane.x[-1] - plane.x[0])
    to_scale = 0.4 <= ratio <= 1.4
    scaled = {"scaleanchor": "x", "constrain": "domain"} if to_scale else {}
    return Figure(
        id="plane",
        title="Map of the plane through the three solutions",
        data=[surface, edges, discs, *marks],
        layout={
            "xaxis": axis("distance in weight space", showgrid=False, zeroline=False)
            | {"constrain": "domain", "range": [plane.x[0], plane.x[-1]]},
            "yaxis": axis("distance in weight space", showgrid=False, zeroline=False)
            | {**scaled, "range": [plane.y[0], plane.y[-1]]},
            "hovermode": "closest",
            "annotations": [
                _name(solution, at) for solution, at in zip(names, plane.coordinates, strict=True)
            ],
        },
        height=600,
        phone={"yaxis": {"title": {"text": ""}}},
        aspect=ratio if to_scale else 0.75,
        note=" ".join(_notes(len(flat) - len(finite), len(flat), None if to_scale else ratio)),
    )


def _notes(gaps: int, points: int, ratio: float | None) -> list[str]:
    notes = []
    if gaps:
        notes.append(f"{gaps} of {points} grid points gave no finite loss and are blank.")
    if ratio is not None:
        flat, axis_name = (0.75 / ratio, "vertical") if ratio < 1 else (ratio / 0.75, "horizontal")
        notes.append(f"Not to scale: the {axis_name} axis is stretched {number(flat, 2)} times.")
    return notes


def _name(solution: _Solution, at: tuple[float, float]) -> Spec:
    return {
        "text": text(solution.label),
        "x": at[0],
        "y": at[1],
        "yshift": 25,
        "showarrow": False,
        "font": {"size": 12.5, "color": colour("ink")},
        "bgcolor": colour("surface", 0.88),
        "borderpad": 3,
    }


class _Scale:
    """Losses as heights of the map: their logarithm, also where some are zero or negative."""

    def __init__(self, finite: Sequence[float]) -> None:
        low, high = min(finite, default=0.0), max(finite, default=1.0)
        self._low, self._high = low, high
        # Shifted so that the logarithm spans three decades at least as far as it can.
        self._shift = 0.0 if low > 0 and high / low < 1e6 else 1e-3 * (high - low or 1.0) - low

    def height(self, loss: float) -> float:
        return math.log10(loss + self._shift) if math.isfinite(loss) else math.nan

    def ticks(self) -> Spec:
        bottom, top = self.height(self._low), self.height(self._high)
        values = [10 ** (bottom + (top - bottom) * k / 5) - self._shift for k in range(6)]
        shown = sorted({float(f"{value:.1e}") for value in values})
        shown = [value for value in shown if self._low <= value <= self._high] or [self._low]
        return {
            "tickmode": "array",
            "tickvals": [self.height(value) for value in shown],
            "ticktext": [number(value, 2) for value in shown],
        }


def _lines(lines: Sequence[Line], by_run: dict[str, _Solution]) -> list[Figure]:
    losses = [loss for line in lines for loss in line.losses if math.isfinite(loss)]
    if not losses:
        return []
    logarithmic = min(losses) > 0 and max(losses) / min(losses) > 20
    span = (log_range if logarithmic else linear_range)(losses, 0.1)
    form = metric_format(losses)
    figures = []
    for i, line in enumerate(lines):
        start, end = (by_run[name] for name in line.names)
        length = number(line.distance)
        figures.append(
            Figure(
                id=f"line-{i}",
                title=_line_title(line, start.label, end.label),
                subtitle=f"Distance in weight space {length}",
                data=[_walk(line, form), *_ends(line, start, end, form)],
                layout={
                    "xaxis": axis("share of the way", range=[-0.04, 1.04], dtick=0.25),
                    "yaxis": axis(
                        "loss (log scale)" if logarithmic else "loss",
                        range=span,
                        **({"type": "log"} if logarithmic else {}),
                    ),
                    "hovermode": "closest",
                    "showlegend": False,
                },
                height=168,
                phone={"height": 210},
            )
        )
    return figures


def _walk(line: Line, form: Any) -> Spec:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": line.positions,
        "y": line.losses,
        "customdata": [form(loss) for loss in line.losses],
        "hovertemplate": "loss <b>%{customdata}</b> at %{x:.0%} of the way<extra></extra>",
        "line": {"color": colour("ink", 0.8), "width": 2},
        "marker": {"size": 3.5, "color": colour("ink", 0.8)},
    }


def _ends(line: Line, start: _Solution, end: _Solution, form: Any) -> list[Spec]:
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [at],
            "y": [loss],
            "name": text(solution.label),
            "customdata": [form(loss)],
            "hovertemplate": "%{fullData.name}: loss <b>%{customdata}</b><extra></extra>",
            "marker": {
                "symbol": solution.symbol,
                "size": 13,
                "color": colour(solution.colour),
                "line": {"width": 2, "color": colour("surface")},
            },
            "cliponaxis": False,
            "meta": {"entrant": solution.entrant.index, "always": True},
        }
        for solution, at, loss in ((start, 0, line.losses[0]), (end, 1, line.losses[-1]))
    ]


def _line_title(line: Line, start: str, end: str) -> str:
    if math.isnan(line.barrier):
        return f"{start} to {end}: no finite loss somewhere on the way"
    if line.barrier <= 0:
        return f"{start} to {end}: no barrier"
    if _hardly(line):
        return f"{start} to {end}: hardly a barrier, {number(line.barrier, 2)}"
    return f"{start} to {end}: a barrier of {number(line.barrier)}"


def _title(terrain: Terrain, by_run: dict[str, _Solution]) -> str:
    known = [line for line in terrain.lines if math.isfinite(line.barrier)]
    if not known:
        return "The loss between the best solutions"
    lowest = min(known, key=lambda line: line.barrier)
    one, other = (by_run[name].label for name in lowest.names)
    if all(_hardly(line) for line in known):
        return "No barrier to speak of separates the best solutions: they share one valley"
    if _hardly(lowest):
        return f"{one} and {other} share a valley: no barrier to speak of lies between them"
    if len(known) == 1:
        return f"A barrier of {number(lowest.barrier)} separates {one} and {other}"
    return (
        f"Each solution lies in a valley of its own; the lowest barrier, {number(lowest.barrier)}, "
        f"is between {one} and {other}"
    )


def _hardly(line: Line) -> bool:
    """Return whether a barrier is under a hundredth of what the losses at the ends are."""
    return line.barrier <= 0.01 * max(abs(line.losses[0]), abs(line.losses[-1]))
