"""How the metric and the training loss go, against steps and against seconds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from thalweg.race.rows import RunRow
from thalweg.race.sentences import listing
from thalweg.report import look
from thalweg.report.curve import Value, height, shared_points, target_line
from thalweg.report.facts import Entrant, Race
from thalweg.report.figure import (
    Figure,
    Spec,
    axis,
    colour,
    text,
    wants_log,
)
from thalweg.report.numbers import Format, integer, number, seconds

DISTURBED = "Against training time, which other work on the machine disturbed"


@dataclass(frozen=True)
class _Band:
    """The mean over seeds of an entrant's curves, and their extremes, where all have a value."""

    steps: list[int]
    seconds: list[float]
    middle: list[float]
    low: list[float]
    high: list[float]
    seeds: int


def build(race: Race) -> dict[str, Any]:
    """Return the section's figures and what to say about entrants without a curve."""
    figures = [
        _figure(race, "curve-metric", race.metric_name, lambda p: p.metric, race.metric, True),
        _figure(race, "curve-loss", "training loss", lambda p: p.train_loss, number, False),
    ]
    missing = [e.label for e in race.entrants if not any(e.curves.values())]
    return {"figures": [figure for figure in figures if figure], "missing": missing}


def _figure(
    race: Race, figure_id: str, what: str, value: Value, form: Format, is_metric: bool
) -> Figure | None:
    bands = [(e, band) for e in race.ranking if (band := _band(e, value)) is not None]
    broken = [(e, row) for e in race.ranking for row in e.finals if _drawn_alone(e, row, value)]
    if not bands and not broken:
        return None
    traces: list[Spec] = []
    for entrant, band in bands:
        if band.seeds > 1:
            traces.append(_area(entrant, band))
    for entrant, band in bands:
        traces.append(_line(entrant, band, form))
    for entrant, row in broken:
        traces.append(_broken(entrant, row, value, form))
    target = race.target_value if is_metric else None
    whole, half = _values(bands, 0.0), _values(bands, 0.5)
    if not bands:
        whole = half = [v for trace in traces for v in trace["y"]]
    # A metric of which higher is better is a share or a score, and reads best as it is.
    logarithmic = not (is_metric and race.higher_is_better) and wants_log(whole)
    heights = {
        name: height(what, values, target, logarithmic)
        for name, values in (("whole", whole), ("half", half))
    }
    hover = "x unified" if len(bands) <= 8 else "closest"
    layout: Spec = {
        "xaxis": axis("training steps", rangemode="tozero"),
        "yaxis": heights["whole"],
        "hovermode": hover,
    }
    if target is not None:
        layout["shapes"] = [target_line(target)]
        layout["annotations"] = [_target_label(number(target, 4), target, logarithmic)]
    title = _metric_title if is_metric else _loss_title
    # Entrants share steps but not seconds, so only steps can be read off together.
    ways = (("steps", "training steps", hover), ("seconds", "training time in seconds", "closest"))
    variants: dict[str, Spec] = {
        name: {
            "data": [{"x": trace[f"_{name}"]} for trace in traces],
            "layout": {"xaxis": {"title": {"text": label}}, "hovermode": mode},
            "title": DISTURBED
            if name == "seconds" and race.verdict.contention
            else title(race, bands, form, name),
        }
        for name, label, mode in ways
    }
    variants |= {name: {"layout": {"yaxis": height}} for name, height in heights.items()}
    for trace in traces:
        trace["x"] = trace.pop("_steps")
        del trace["_seconds"]
    seeds = max((band.seeds for _, band in bands), default=1)
    return Figure(
        id=figure_id,
        title=variants["steps"]["title"],
        subtitle=_subtitle(race, what, is_metric, seeds),
        data=traces,
        layout=layout,
        height=380,
        phone={"height": 300, "hovermode": "closest"},
        variants=variants,
    )


def _subtitle(race: Race, what: str, is_metric: bool, seeds: int) -> str:
    arrow = "higher" if race.higher_is_better else "lower"
    name = f"{what[:1].upper()}{what[1:]}"
    start = f"{name} on validation data, {arrow} is better" if is_metric else name
    return f"{start}; mean and range of {seeds} seeds" if seeds > 1 else f"{start}; one seed"


def _band(entrant: Entrant, value: Value) -> _Band | None:
    curves = [entrant.curves[row.run_id] for row in entrant.finished]
    points = shared_points(curves, value)
    if points is None:
        return None
    return _Band(
        steps=[here[0].step for here in points],
        seconds=[mean(p.seconds for p in here) for here in points],
        middle=[mean(value(p) for p in here) for here in points],
        low=[min(value(p) for p in here) for here in points],
        high=[max(value(p) for p in here) for here in points],
        seeds=sum(any(math.isfinite(value(p)) for p in curve) for curve in curves),
    )


def _values(bands: Sequence[tuple[Entrant, _Band]], share: float) -> list[float]:
    """Return all values from some share of the steps on."""
    return [
        value
        for _, band in bands
        for step, *values in zip(band.steps, band.low, band.high, strict=True)
        if step >= share * band.steps[-1]
        for value in values
    ]


def _drawn_alone(entrant: Entrant, row: RunRow, value: Value) -> bool:
    curve = entrant.curves[row.run_id]
    return not row.finished and any(math.isfinite(value(p)) for p in curve)


def _area(entrant: Entrant, band: _Band) -> Spec:
    return {
        "_steps": [*band.steps, *reversed(band.steps)],
        "_seconds": [*band.seconds, *reversed(band.seconds)],
        "y": [*band.high, *reversed(band.low)],
        "type": "scatter",
        "mode": "lines",
        "line": {"width": 0},
        "fill": "toself",
        "fillcolor": colour(look.colour_name(entrant.index), 0.16),
        "hoverinfo": "skip",
        "meta": {"entrant": entrant.index},
    }


def _line(entrant: Entrant, band: _Band, form: Format) -> Spec:
    ranges = [
        f"{form(low)} to {form(high)}, " if band.seeds > 1 else ""
        for low, high in zip(band.low, band.high, strict=True)
    ]
    notes = [
        [form(middle), f"{span}step {integer(step)}, {seconds(time)}"]
        for middle, span, step, time in zip(
            band.middle, ranges, band.steps, band.seconds, strict=True
        )
    ]
    return {
        "_steps": band.steps,
        "_seconds": band.seconds,
        "y": band.middle,
        "customdata": notes,
        "name": text(entrant.label),
        "type": "scatter",
        "mode": "lines+markers",
        "line": {
            "color": colour(look.colour_name(entrant.index)),
            "width": 2.4,
            "dash": look.dash(entrant.index),
        },
        "marker": {"symbol": look.symbol(entrant.index), "size": 6, "maxdisplayed": 8},
        "hovertemplate": "<b>%{customdata[0]}</b> %{fullData.name}<br>%{customdata[1]}"
        "<extra></extra>",
        "meta": {"entrant": entrant.index},
    }


def _broken(entrant: Entrant, row: RunRow, value: Value, form: Format) -> Spec:
    """Return the curve of a run that did not finish, up to its last number, with a cross there."""
    points = [p for p in entrant.curves[row.run_id] if math.isfinite(value(p))]
    end = f"seed {row.seed} {row.status} at step {integer(row.steps)}"
    notes = [[form(value(p)), f"step {integer(p.step)}; {end}"] for p in points]
    return {
        "_steps": [p.step for p in points],
        "_seconds": [p.seconds for p in points],
        "y": [value(p) for p in points],
        "customdata": notes,
        "name": text(entrant.label),
        "type": "scatter",
        "mode": "lines+markers",
        "line": {
            "color": colour(look.colour_name(entrant.index), 0.75),
            "width": 1.2,
            "dash": look.dash(entrant.index),
        },
        "marker": {
            "symbol": ["circle"] * (len(points) - 1) + ["x-thin"],
            "size": [1] * (len(points) - 1) + [11],
            "line": {"width": 2.5, "color": colour(look.colour_name(entrant.index))},
        },
        "hovertemplate": "<b>%{customdata[0]}</b> %{fullData.name}<br>%{customdata[1]}"
        "<extra></extra>",
        "meta": {"entrant": entrant.index},
    }


def _target_label(label: str, target: float, logarithmic: bool) -> Spec:
    return {
        "text": f"target {label}",
        "xref": "paper",
        "x": 0.01,
        "xanchor": "left",
        "y": math.log10(target) if logarithmic and target > 0 else target,
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 12, "color": colour("muted")},
    }


def _metric_title(
    race: Race, bands: Sequence[tuple[Entrant, _Band]], form: Format, axis_name: str
) -> str:
    field = "steps_to_target" if axis_name == "steps" else "seconds_to_target"
    times = [(getattr(entrant.standing, field), entrant) for entrant, _ in bands]
    hits = [(time, entrant) for time, entrant in times if time is not None]
    if hits:
        least = min(time for time, _ in hits)
        first = [entrant.label for time, entrant in hits if time == least]
        reach = "reaches" if len(first) == 1 else "reach"
        cost = f"fewest steps, {integer(round(least))}"
        if axis_name == "seconds":
            cost = f"least time, {seconds(least)}"
        return f"{listing(first)} {reach} {number(race.target_value, 4)} in the {cost}"
    if not bands:
        return "No run got to its end"
    pick = max if race.higher_is_better else min
    best, leader = pick(((b.middle[-1], e) for e, b in bands), key=lambda end: end[0])
    where = "highest" if race.higher_is_better else "lowest"
    missed = "No median run reaches the target; " if race.target_value is not None else ""
    return f"{missed}{leader.label} ends {where}, at {form(best)}"


def _loss_title(
    race: Race, bands: Sequence[tuple[Entrant, _Band]], form: Format, axis_name: str
) -> str:
    if not bands:
        return "No run got to its end"
    if axis_name == "seconds":
        last, slowest = max(((band.seconds[-1], e) for e, band in bands), key=lambda end: end[0])
        first, fastest = min(((band.seconds[-1], e) for e, band in bands), key=lambda end: end[0])
        if len(bands) > 1:
            return (
                f"The same steps take {fastest.label} {seconds(first)} and {slowest.label} "
                f"{seconds(last)}"
            )
    loss, leader = min(((band.middle[-1], e) for e, band in bands), key=lambda end: end[0])
    return f"{leader.label} ends with the lowest training loss, {form(loss)}"
