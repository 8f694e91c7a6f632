"""How probably a run of one entrant beats a run of another."""

from typing import Any

from thalweg.race.verdict import Pair
from thalweg.report import look
from thalweg.report.facts import Race
from thalweg.report.figure import Figure, Spec, colour, text
from thalweg.report.numbers import number

NAMED = 8
"""Entrants up to which the columns of the heat map carry names and not numbers."""


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
    pairs = {(pair.a, pair.b): pair for pair in race.verdict.pairs}
    order = race.ranking
    rows = [text(entrant.label) for entrant in order]
    columns = rows
    if len(order) > NAMED:  # names would take more room than the cells
        columns = [str(i + 1) for i in range(len(order))]
        rows = [f"{row}  {place}" for row, place in zip(rows, columns, strict=True)]
    apart, ties = _Layer(), _Layer()
    for row in order:
        for layer in (apart, ties):
            layer.start_row()
        for column in order:
            if row is column:
                apart.blank()
                ties.blank()
                continue
            chance, low, high, pair = _seen_from(row.name, column.name, pairs)
            told = "told apart" if pair.separated else "not told apart: a tie"
            note = (
                f"{text(row.label)} beats {text(column.label)}<br>with probability "
                f"<b>{chance:.2f}</b> ({low:.2f} to {high:.2f})<br>{told}"
            )
            here, there = (apart, ties) if pair.separated else (ties, apart)
            cell = f"<b>{chance:.2f}</b>" if pair.separated else f"{chance:.2f}"
            here.cell(chance, cell if len(order) <= 12 else "", note)
            there.blank()
    places = list(range(len(order)))
    ticks = {"tickmode": "array", "tickvals": places, "showgrid": False, "showline": False}
    span = [-0.5, len(order) - 0.5]
    side = max(260, min(46 * len(order) + 120, 640))
    return Figure(
        id="pairs",
        title=_title(race),
        subtitle="Probability that a run of the row's entrant beats one of the column's. Bold and "
        "in full colour: the data tell the two apart. Pale: a tie",
        data=[
            apart.trace(places, ["against-2", "against-1", "even", "for-1", "for-2"]),
            ties.trace(places, ["against-1", "even", "for-1"]),
        ],
        layout={
            "xaxis": {**ticks, "ticktext": columns, "autotickangles": [0, -40], "range": span},
            "yaxis": {**ticks, "ticktext": rows, "range": span[::-1]},
            "hovermode": "closest",
            "dragmode": False,
        },
        height=side,
        phone={"height": min(side, 420), "cells": "small"},
    )


class _Layer:
    """The cells of the heat map that are drawn alike."""

    def __init__(self) -> None:
        self._chances: list[list[float | None]] = []
        self._cells: list[list[str]] = []
        self._notes: list[list[str]] = []

    def start_row(self) -> None:
        for table in (self._chances, self._cells, self._notes):
            table.append([])

    def cell(self, chance: float | None, cell: str, note: str) -> None:
        self._chances[-1].append(chance)
        self._cells[-1].append(cell)
        self._notes[-1].append(note)

    def blank(self) -> None:
        self.cell(None, "", "")

    def trace(self, places: list[int], scale: list[str]) -> Spec:
        last = len(scale) - 1
        return {
            "type": "heatmap",
            "z": self._chances,
            "x": places,
            "y": places,
            "zmin": 0,
            "zmax": 1,
            "text": self._cells,
            "texttemplate": "%{text}",
            "customdata": self._notes,
            "hovertemplate": "%{customdata}<extra></extra>",
            "hoverongaps": False,
            "colorscale": [[i / last, colour(name)] for i, name in enumerate(scale)],
            "showscale": False,
            "xgap": 3,
            "ygap": 3,
        }


def _seen_from(
    row: str, column: str, pairs: dict[tuple[str, str], Pair]
) -> tuple[float, float, float, Pair]:
    pair = pairs.get((row, column))
    if pair is not None:
        return pair.probability, pair.low, pair.high, pair
    pair = pairs[column, row]
    return 1 - pair.probability, 1 - pair.high, 1 - pair.low, pair


def _title(race: Race) -> str:
    pairs = race.verdict.pairs
    apart = sum(pair.separated for pair in pairs)
    labels = {e.name: e.label for e in race.entrants}
    if len(pairs) == 1:
        (pair,) = pairs
        told = "the data tell the two apart" if pair.separated else "not enough to tell them apart"
        return (
            f"{labels[pair.a]} beats {labels[pair.b]} with probability {pair.probability:.2f}: "
            f"{told}"
        )
    if apart == 0:
        return f"The data separate none of the {len(pairs)} pairs"
    if apart == len(pairs):
        return f"The data separate all {apart} pairs"
    return f"The data separate {apart} of {len(pairs)} pairs; the rest are ties"
