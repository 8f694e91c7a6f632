"""How probably a run of one entrant beats a run of another."""

from typing import Any

from thalweg.report import look
from thalweg.report.chances import NAMED, Chance, chance_map
from thalweg.report.facts import Race
from thalweg.report.figure import Figure
from thalweg.report.numbers import number


def build(race: Race) -> dict[str, Any]:
    """Return the heat map, or None if there is nobody to compare, and the leader's margins."""
    several = len(race.entrants) > 1
    return {
        "figure": _figure(race) if several else None,
        "leader": race.ranking[0].label,
        "margins": _margins(race) if several else [],
        "metric_name": race.metric_name,
        "many": len(race.entrants) > NAMED,
    }


def _margins(race: Race) -> list[dict[str, str]]:
    """Return how far the first of the ranking is from each other entrant."""
    by_name = {entrant.name: entrant for entrant in race.entrants}
    rows = []
    for pair in race.verdict.pairs:
        if pair.a != race.ranking[0].name:
            continue
        known = pair.difference is not None
        margin = "unknown"
        if known:
            sign = "+" if float(pair.difference or 0) > 0 else ""
            margin = sign + race.metric(pair.difference)
        if known and pair.difference_high is not None:
            margin += f" ± {number(pair.difference_high - float(pair.difference or 0), 2)}"
        rows.append(
            {
                "label": by_name[pair.b].label,
                "swatch": look.swatch(by_name[pair.b].index),
                "margin": margin,
                "chance": f"{pair.probability:.2f}",
                "told": "told apart" if pair.separated else "tie",
            }
        )
    return rows


def _figure(race: Race) -> Figure:
    place = {entrant.name: i for i, entrant in enumerate(race.ranking)}
    chances = {
        (place[pair.a], place[pair.b]): Chance(
            pair.probability, pair.low, pair.high, pair.separated
        )
        for pair in race.verdict.pairs
    }
    labels = [entrant.label for entrant in race.ranking]
    return chance_map(
        "pairs",
        labels,
        chances,
        "Probability that a run of the row's entrant beats one of the column's",
    )
