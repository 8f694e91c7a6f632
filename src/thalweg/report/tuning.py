"""The page of a search: what was found, how, and which parameters matter."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any

from thalweg.core.registry import get
from thalweg.core.space import Choice, Log, Space
from thalweg.report.figure import Figure, axis, colour, linear_range, text
from thalweg.report.numbers import NONE, integer, number
from thalweg.report.page import fill, write_page
from thalweg.tune import Slice, Trial, Tuned, slices
from thalweg.tune.importance import comparable

_ROWS = 20
_TEXT = (
    "All trials train from the same weights on the same batches. A trial that is shorter than a "
    "full run is its beginning: the schedule is that of the full run. A trial that diverged or "
    "failed is a result, too, and counts as worse than the worst. The curve of a slice is what a "
    "Gaussian process through the trials expects on average over the other parameters; a "
    "parameter's importance is the share of the variance over the whole space that its curve "
    "explains. The best trial is the best of many under one seed, so it flatters itself: compare "
    "recipes by a race, which runs them again under fresh seeds."
)


def write_tuning_report(tuned: Tuned, out: Path | None = None) -> Path:
    """Write the page of a search: one file that works offline.

    Args:
        tuned: what came of the search.
        out: the file; ``report.html`` in the search's folder if not given.

    Returns:
        The path of the page.

    Raises:
        UsageError: the page cannot be written.
    """
    path = out or Path(tuned.config.out) / "report.html"
    return write_page(path, render(tuned))


def render(tuned: Tuned) -> str:
    """Return the HTML of the page."""
    found = slices(tuned.found.space, tuned.found.trials)
    sections = {
        "summary": _summary(tuned),
        "progress": _progress(tuned),
        "importance": _importance(tuned, found),
        "slices": _slices(tuned, found),
        "trials": _trials(tuned),
        "method": _method(tuned),
    }
    return fill("tune.html.j2", sections)


def _summary(tuned: Tuned) -> dict[str, Any]:
    facts = tuned.summary()
    name = tuned.workload.metric_name
    headline = "No trial has a result"
    if tuned.best is not None:
        headline = f"Best {name} {number(tuned.metric, 4)} in trial {facts['trial']}"
    counts = ", ".join(f"{count} {status}" for status, count in facts["trials"].items())
    return {
        "headline": headline,
        "task": tuned.workload.title,
        "recipe": facts["recipe"],
        "counts": f"{len(tuned.found.trials)} trials: {counts}.",
        "warnings": [_warning(key, edge) for key, edge in facts["edges"].items()],
    }


def _warning(name: str, edge: str) -> str:
    return (
        f"{name} is best at the {edge} edge of its range: a wider range may give a better result."
    )


def _progress(tuned: Tuned) -> dict[str, Any]:
    trials = tuned.found.trials
    spent, total = [], 0.0
    for trial in trials:
        start = trials[trial.parent].reached if trial.parent is not None else 0.0
        total += max(0.0, trial.reached - start)
        spent.append(total)
    metrics = [tuned.metric_of(trial.loss) for trial in trials]
    full = [trial.status == "ok" and trial.reached >= tuned.settings.steps for trial in trials]
    known = [value for value in metrics if value is not None]
    span = linear_range(known, 0.12) if known else [0.0, 1.0]
    worst = span[0] if tuned.workload.higher_is_better else span[1]
    pick = max if tuned.workload.higher_is_better else min
    traces = [
        _points("shorter", trials, spent, metrics, lambda i: not full[i], 0.35),
        _points("full length", trials, spent, metrics, lambda i: full[i], 0.9),
    ]
    broken = [i for i, value in enumerate(metrics) if value is None]
    if broken:
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [spent[i] for i in broken],
                "y": [worst] * len(broken),
                "customdata": [f"trial {i}: {text(trials[i].status)}" for i in broken],
                "hovertemplate": "%{customdata}<extra></extra>",
                "marker": {
                    "symbol": "x-thin",
                    "size": 10,
                    "line": {"width": 2, "color": colour("warning")},
                },
                "cliponaxis": False,
            }
        )
    line_x, line_y = [], []
    for i, value in enumerate(metrics):
        if full[i] and value is not None:
            line_x.append(spent[i])
            line_y.append(pick([value, *line_y[-1:]]))
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "x": line_x,
            "y": line_y,
            "line": {"color": colour("accent"), "width": 2, "shape": "hv"},
            "hoverinfo": "skip",
        }
    )
    return {
        "title": f"{integer(round(total))} steps of training in {len(trials)} trials",
        "figure": Figure(
            id="progress-figure",
            title="The metric of every trial, and the best so far",
            data=traces,
            layout={
                "xaxis": axis("steps of training so far"),
                "yaxis": axis(text(tuned.workload.metric_name), range=span),
                "hovermode": "closest",
            },
            note="A point is a trial, pale if it is shorter than a full run; a cross is one that "
            "diverged or failed; the line is the best full run so far.",
        ),
    }


def _points(
    name: str, trials: list[Trial], x: list[float], y: list[Any], wanted: Any, alpha: float
) -> dict[str, Any]:
    chosen = [i for i in range(len(trials)) if wanted(i) and y[i] is not None]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [x[i] for i in chosen],
        "y": [y[i] for i in chosen],
        "customdata": [_note(trials[i], y[i]) for i in chosen],
        "hovertemplate": "%{customdata}<extra></extra>",
        "marker": {"color": colour("entrant-0", alpha), "size": 9},
        "cliponaxis": False,
    }


def _note(trial: Trial, metric: float | None) -> str:
    lines = [f"<b>{number(metric, 4)}</b>, trial {trial.number}, {round(trial.reached)} steps"]
    lines += [f"{text(name)} = {text(_value(value))}" for name, value in trial.values.items()]
    return "<br>".join(lines)


def _value(value: Any) -> str:
    plain = isinstance(value, bool) or not isinstance(value, int | float)
    return str(value) if plain else number(value)


def _importance(tuned: Tuned, found: list[Slice]) -> dict[str, Any]:
    ranked = sorted(found, key=lambda one: one.share)
    if not ranked:
        return {"figure": None}
    top = ranked[-1]
    return {
        "title": f"{top.name} alone explains {top.share:.0%} of the variance",
        "note": f"{_counted(tuned)} A parameter that is there at times counts where it is.",
        "figure": Figure(
            id="importance-figure",
            title="Share of the variance that each parameter explains alone",
            data=[
                {
                    "type": "bar",
                    "orientation": "h",
                    "x": [one.share for one in ranked],
                    "y": [text(one.name) for one in ranked],
                    "marker": {"color": colour("entrant-0")},
                    "hovertemplate": "%{x:.1%}<extra></extra>",
                }
            ],
            layout={
                "xaxis": axis("share of the variance", range=[0, 1], tickformat=".0%"),
                "yaxis": axis("", type="category"),
            },
            height=110 + 34 * len(ranked),
        ),
    }


def _counted(tuned: Tuned) -> str:
    counted = comparable(tuned.found.trials)
    return f"From {len(counted)} trials of {round(counted[0].reached)} steps." if counted else ""


def _slices(tuned: Tuned, found: list[Slice]) -> dict[str, Any]:
    counted = comparable(tuned.found.trials)
    edges = tuned.found.edges()
    values = [metric for one in counted if (metric := tuned.metric_of(one.loss)) is not None]
    panels = []
    for index, one in enumerate(found):
        space = tuned.found.space.spaces[one.name]
        curve = [tuned.metric_of(loss) for loss in one.losses]
        having = [trial for trial in counted if one.name in trial.values]
        span = linear_range([*values, *(y for y in curve if y is not None)], 0.08)
        data = [
            {
                "type": "scatter",
                "mode": "lines" if not isinstance(space, Choice) else "markers",
                "x": [_place(value) for value in one.values],
                "y": curve,
                "line": {"color": colour("accent"), "width": 2},
                "marker": {"symbol": "line-ew-open", "size": 18, "color": colour("accent")},
                "hoverinfo": "skip",
            },
            {
                "type": "scatter",
                "mode": "markers",
                "x": [_place(trial.values[one.name]) for trial in having],
                "y": [tuned.metric_of(trial.loss) for trial in having],
                "customdata": [_note(trial, tuned.metric_of(trial.loss)) for trial in having],
                "hovertemplate": "%{customdata}<extra></extra>",
                "marker": {"color": colour("entrant-0", 0.7), "size": 8},
                "cliponaxis": False,
            },
        ]
        layout = {
            "xaxis": _x_axis(one.name, space),
            "yaxis": axis(text(tuned.workload.metric_name), range=span),
            "hovermode": "closest",
        }
        panels.append(
            {
                "label": f"{one.name}: {one.share:.0%}",
                "warning": _warning(one.name, edges[one.name]) if one.name in edges else "",
                "figure": Figure(f"slice-{index}", one.name, data, layout, height=240),
            }
        )
    return {
        "panels": panels,
        "title": "The metric along each parameter",
        "note": f"{_counted(tuned)} The line is the expectation over the other parameters.",
    }


def _place(value: Any) -> Any:
    number_ = isinstance(value, int | float) and not isinstance(value, bool)
    return value if number_ else text(str(value))


def _x_axis(name: str, space: Space) -> dict[str, Any]:
    if isinstance(space, Choice):
        return axis(text(name), type="category")
    if isinstance(space, Log):
        ends = [math.log10(space.low), math.log10(space.high)]
        room = 0.04 * (ends[1] - ends[0])
        return axis(f"{text(name)} (log scale)", type="log", range=[ends[0] - room, ends[1] + room])
    return axis(text(name), range=linear_range([space.low, space.high], 0.04))


def _trials(tuned: Tuned) -> dict[str, Any]:
    names = tuned.found.space.names
    able = [trial for trial in tuned.found.trials if trial.loss is not None]
    ranked = sorted(able, key=lambda trial: (-trial.reached, trial.loss, trial.number))
    broken = [trial for trial in tuned.found.trials if trial.loss is None]
    rows = [
        [
            str(trial.number),
            trial.status,
            integer(round(trial.reached)),
            number(tuned.metric_of(trial.loss), 4),
            *(_value(trial.values[name]) if name in trial.values else NONE for name in names),
        ]
        for trial in [*ranked[:_ROWS], *broken[:_ROWS]]
    ]
    note = "All trials are in results.csv." if len(rows) < len(tuned.found.trials) else ""
    if broken:
        note = f"The first error: {broken[0].error} {note}"
    return {
        "title": "The best trials, longest first",
        "columns": ["Trial", "Status", "Steps", tuned.workload.metric_name, *names],
        "rows": rows,
        "note": note,
    }


def _method(tuned: Tuned) -> dict[str, Any]:
    config, workload, settings = tuned.config, tuned.workload, tuned.settings
    words = ["thalweg", "tune", config.workload, *config.recipes, "--searcher", config.searcher]
    words += ["--trials", str(config.trials), "--steps", str(settings.steps)]
    words += ["--evaluate-every", str(settings.evaluate_every), "--seed", str(config.seed)]
    part = get(config.searcher.partition("(")[0].strip(), "searcher")
    data = [
        ("Task", workload.description or workload.title),
        ("Model", workload.architecture),
        ("Source", workload.data_source),
        ("Licence", workload.licence),
    ]
    return {
        "command": shlex.join([*words, "--out", "my-search"]),
        "data": [(name, value) for name, value in data if value],
        "search": [
            ("Searcher", f"{part.name} ({part.reference})" if part.reference else part.name),
            ("Budget", f"{config.trials} runs of {integer(settings.steps)} steps"),
            ("Seed of every run", str(settings.seed)),
            ("Parameters", ", ".join(tuned.found.space.names)),
        ],
        "text": _TEXT,
    }
