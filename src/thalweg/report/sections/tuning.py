"""How much each entrant's result depends on its learning rate."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from thalweg.race.rows import RunRow
from thalweg.race.search import EDGE
from thalweg.report import look
from thalweg.report.facts import Entrant, Race
from thalweg.report.figure import (
    Figure,
    Spec,
    axis,
    colour,
    linear_range,
    log_range,
    text,
    wants_log,
)
from thalweg.report.numbers import number

Space = Mapping[str, Any]


def build(race: Race) -> dict[str, Any]:
    """Return a panel an entrant, all on one scale, and the finding."""
    values = [
        float(row.final_metric)
        for e in race.entrants
        for row in e.trials
        if row.finished and row.final_metric is not None
    ]
    logarithmic = not race.higher_is_better and wants_log(values)
    span = (log_range if logarithmic else linear_range)(values, 0.12) if values else [0.0, 1.0]
    panels = [_panel(entrant, race, span, logarithmic) for entrant in race.ranking]
    return {"panels": panels, "title": _title(race)}


def _panel(
    entrant: Entrant, race: Race, span: Sequence[float], logarithmic: bool
) -> dict[str, Any]:
    key = _key(entrant)
    panel = {
        "label": entrant.label,
        "name": entrant.name,
        "swatch": look.swatch(entrant.index),
        "facts": _facts(entrant, race, key),
        "warning": _warning(entrant, key),
        "figure": None,
    }
    if key is not None and entrant.trials:
        panel["figure"] = _figure(entrant, race, key, span, logarithmic)
    return panel


def _key(entrant: Entrant) -> str | None:
    """Return the parameter to show: the learning rate if it is tuned, else the first that is."""
    keys = list(entrant.space)
    return next((key for key in keys if key.endswith(".lr")), keys[0] if keys else None)


def _figure(
    entrant: Entrant, race: Race, key: str, span: Sequence[float], logarithmic: bool
) -> Figure:
    tone = look.colour_name(entrant.index)
    # Trials without a result lie at the edge of the panel, on the side where results are worst.
    inset = 0.04 * (span[1] - span[0])
    worst = span[0] + inset if race.higher_is_better else span[1] - inset
    edge_value = 10**worst if logarithmic else worst
    done = [row for row in entrant.trials if row.finished and row is not entrant.best]
    broken = [row for row in entrant.trials if not row.finished and key in row.hyper]
    marker = {"symbol": look.symbol(entrant.index), "color": colour(tone, 0.6), "size": 9}
    traces = [_points(done, entrant, race, key, marker, None)]
    if broken:
        cross = {"symbol": "x-thin", "size": 10, "line": {"width": 2.4, "color": colour(tone)}}
        traces.append(_points(broken, entrant, race, key, cross, edge_value))
    if entrant.best is not None:
        ringed = {
            "symbol": look.symbol(entrant.index),
            "color": colour(tone),
            "size": 14,
            "line": {"width": 2, "color": colour("ink")},
        }
        traces.append(_points([entrant.best], entrant, race, key, ringed, None))
    y = axis(text(race.metric_name), range=list(span), **({"type": "log"} if logarithmic else {}))
    layout: Spec = {"xaxis": _x_axis(key, entrant.space[key]), "yaxis": y, "hovermode": "closest"}
    if _edge(entrant, key):
        layout["shapes"] = _zones(entrant.space[key])
    if broken:
        layout["annotations"] = [
            {
                "text": "did not finish",
                "xref": "paper",
                "x": 1,
                "xanchor": "right",
                "y": worst,
                "yanchor": "bottom" if race.higher_is_better else "top",
                "yshift": 8 if race.higher_is_better else -8,
                "showarrow": False,
                "font": {"size": 11, "color": colour("muted")},
            }
        ]
    return Figure(
        id=f"tuning-{entrant.index}", title=entrant.label, data=traces, layout=layout, height=230
    )


def _points(
    rows: Sequence[RunRow],
    entrant: Entrant,
    race: Race,
    key: str,
    marker: Spec,
    at: float | None,
) -> Spec:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [row.hyper[key] for row in rows],
        "y": [row.final_metric if at is None else at for row in rows],
        "customdata": [_note(row, race) for row in rows],
        "hovertemplate": "%{customdata}<extra></extra>",
        "name": text(entrant.label),
        "marker": marker,
        "cliponaxis": False,
        "meta": {"entrant": entrant.index},
    }


def _note(row: RunRow, race: Race) -> str:
    result = f"<b>{race.metric(row.final_metric)}</b>"
    if not row.finished:
        result = f"<b>{row.status}</b> at step {row.steps}"
    lines = [f"{result}, trial {row.trial + 1}"]
    lines += [f"{text(name)} = {_value(value)}" for name, value in row.hyper.items()]
    return "<br>".join(lines)


def _value(value: Any) -> str:
    plain = isinstance(value, bool) or not isinstance(value, (int, float))
    return text(str(value)) if plain else number(value)


def _x_axis(key: str, space: Space) -> Spec:
    name = "learning rate" if key.endswith(".lr") else key
    if space["type"] == "log":
        ends = [math.log10(space["low"]), math.log10(space["high"])]
        room = 0.04 * (ends[1] - ends[0])
        span = [ends[0] - room, ends[1] + room]
        return axis(f"{text(name)} (log scale)", type="log", range=span)
    if space["type"] == "choice":
        return axis(text(name), type="category")
    return axis(text(name), range=linear_range([space["low"], space["high"]], 0.04))


def _edge(entrant: Entrant, key: str) -> bool:
    return entrant.standing.edge is not None and key.endswith(".lr") and len(entrant.trials) > 1


def _zones(space: Space) -> list[Spec]:
    """Return the outer tenths of a log or linear range, shaded."""
    low, high = space["low"], space["high"]
    if space["type"] == "log":
        inner = [low * (high / low) ** EDGE, low * (high / low) ** (1 - EDGE)]
    else:
        inner = [low + EDGE * (high - low), high - EDGE * (high - low)]
    return [
        {
            "type": "rect",
            "yref": "paper",
            "x0": start,
            "x1": end,
            "y0": 0,
            "y1": 1,
            "line": {"width": 0},
            "fillcolor": colour("warning", 0.12),
            "layer": "below",
        }
        for start, end in ((low, inner[0]), (inner[1], high))
    ]


def _facts(entrant: Entrant, race: Race, key: str | None) -> str:
    standing = entrant.standing
    if not entrant.trials:
        return "Not tuned: it ran with its recipe's values and its rule's defaults."
    if key is None:
        only = race.metric(entrant.best.final_metric) if entrant.best else "did not finish"
        return f"Nothing to tune: its recipe fixes every value. One trial: {only}."
    if entrant.best is None:
        return "No trial finished."
    name = "learning rate" if key.endswith(".lr") else key
    value = _value(entrant.best.hyper[key])
    parts = [f"Best {race.metric(entrant.best.final_metric)} at {name} {value}"]
    if standing.trials > 1:
        parts.append(f"median {race.metric(standing.median_trial)}")
    budget = standing.best_of[-1].trials if standing.best_of else 0
    halves = [best for best in standing.best_of if best.trials <= budget // 2]
    if budget > 3:
        parts.append(f"expected with {halves[-1].trials} trials {race.metric(halves[-1].value)}")
    broken = standing.trials_diverged + standing.trials_failed
    if broken:
        parts.append(f"{broken} of {standing.trials} did not finish")
    given_up = sum(row.status == "pruned" for row in entrant.trials)
    if given_up:
        parts.append(f"{given_up} of {standing.trials} given up")
    return "; ".join(parts) + "."


def _warning(entrant: Entrant, key: str | None) -> str:
    if key is None or not _edge(entrant, key):
        return ""
    return (
        f"The best learning rate lies at the {entrant.standing.edge} edge of its range: a wider "
        "range may give a better result."
    )


def _title(race: Race) -> str:
    gaps = [
        (abs(e.standing.median_trial - e.best.final_metric), e)
        for e in race.ranking
        if e.best is not None
        and e.best.final_metric is not None
        and e.standing.median_trial is not None
        and e.standing.trials > 2
    ]
    if not gaps:
        return "Too few trials to say how much tuning matters"
    gap, calm = min(gaps, key=lambda one: one[0])
    if len(gaps) == 1:
        return f"The median trial of {calm.label} is {number(gap, 2)} from its best"
    if max(gaps, key=lambda one: one[0])[0] <= 1.25 * gap:
        return (
            f"Tuning matters about as much for all: median trials are {number(gap, 2)} or a little "
            "more from the best"
        )
    wide, touchy = max(gaps, key=lambda one: one[0])
    return (
        f"Tuning matters least for {calm.label} (median trial {number(gap, 2)} from its best) "
        f"and most for {touchy.label} ({number(wide, 2)})"
    )
