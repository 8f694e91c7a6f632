"""What an entrant costs: time of a step, peak memory, state."""

from collections.abc import Callable
from typing import Any

from thalweg.report import look
from thalweg.report.facts import Entrant, Race
from thalweg.report.figure import Figure, axis, colour, text
from thalweg.report.numbers import TIMES, number, seconds, size

DISTURBED = "Step time, which other work on the machine disturbed"


def build(race: Race) -> dict[str, Any]:
    """Return a bar chart each for step time, peak memory and state."""
    charts = [
        _chart(race, "cost-time", "seconds_per_step", seconds, "Step time"),
        _chart(race, "cost-peak", "peak_bytes", size, "Peak memory"),
        _chart(race, "cost-state", "state_bytes", size, "State of the optimiser"),
    ]
    return {"figures": [c for c in charts if c], "contention": race.verdict.contention}


def _chart(
    race: Race,
    figure_id: str,
    field: str,
    form: Callable[[float | None], str],
    what: str,
) -> Figure | None:
    bars = [(e, value) for e in race.ranking if (value := getattr(e.standing, field)) is not None]
    if not bars:
        return None
    disturbed = race.verdict.contention is not None and field == "seconds_per_step"
    unit, factor = _unit(max(value for _, value in bars), field)
    return Figure(
        id=figure_id,
        title=DISTURBED if disturbed else _title(what, bars, form),
        data=[
            {
                "type": "bar",
                "orientation": "h",
                "x": [value / factor],
                "y": [text(entrant.label)],
                "text": [form(value)],
                "textposition": "outside",
                "cliponaxis": False,
                "name": text(entrant.label),
                "marker": {"color": colour(look.colour_name(entrant.index))},
                "customdata": [form(value)],
                "hovertemplate": "%{fullData.name}: <b>%{customdata}</b><extra></extra>",
                "width": 0.62,
                "meta": {"entrant": entrant.index},
            }
            for entrant, value in bars
        ],
        layout={
            "xaxis": axis(f"{what.lower()} in {unit}", rangemode="tozero", fixedrange=True)
            | {"nticks": 4, "range": [0, 1.5 * (max(value for _, value in bars) / factor or 1)]},
            "yaxis": {"autorange": "reversed", "showgrid": False, "type": "category", "dtick": 1},
            "hovermode": "closest",
            "showlegend": False,
        },
        height=100 + 30 * len(bars),
    )


def _unit(largest: float, field: str) -> tuple[str, float]:
    units = [("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)]
    if field.endswith("bytes"):
        units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("bytes", 1.0)]
    return next((unit for unit in units if largest >= unit[1]), units[-1])


def _title(
    what: str, bars: list[tuple[Entrant, float]], form: Callable[[float | None], str]
) -> str:
    least, most = min(bars, key=lambda bar: bar[1]), max(bars, key=lambda bar: bar[1])
    if len(bars) == 1:
        return f"{what}: {form(least[1])}"
    if most[1] <= 1.05 * least[1]:
        return f"{what}: about {form(most[1])} for all"
    if least[1] == 0:
        return f"{what}: {least[0].label} none, {most[0].label} {form(most[1])}"
    ratio = number(most[1] / least[1], 2)
    return (
        f"{what}: from {form(least[1])} ({least[0].label}) to {ratio}{TIMES} as much "
        f"({most[0].label})"
    )
