"""Who beats whom with what probability, as a heat map."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from thalweg.report.cells import Cells, grid
from thalweg.report.figure import Figure, text

NAMED = 8
"""Entrants up to which the columns of the heat map carry names and not numbers."""


@dataclass(frozen=True)
class Chance:
    """How probably one beats another.

    Attributes:
        probability: of the first over the second.
        low: lower end of its 95 % interval.
        high: upper end.
        apart: whether the data tell the two apart.
    """

    probability: float
    low: float
    high: float
    apart: bool

    @property
    def turned(self) -> "Chance":
        """Return the chance of the second over the first."""
        return Chance(1 - self.probability, 1 - self.high, 1 - self.low, self.apart)


def chance_map(
    figure_id: str,
    labels: Sequence[str],
    chances: Mapping[tuple[int, int], Chance],
    what: str,
) -> Figure:
    """Return a heat map of chances, rows against columns; pairs without one stay blank.

    Args:
        figure_id: id of the figure.
        labels: of the entrants, from best to worst.
        chances: by places in `labels`, each pair once, in either order.
        what: the probability of what.
    """
    both = {**chances, **{(j, i): one.turned for (i, j), one in chances.items()}}
    rows = [text(label) for label in labels]
    columns = rows
    if len(rows) > NAMED:  # names would take more room than the cells
        columns = [str(i + 1) for i in range(len(rows))]
        rows = [f"{row}  {place}" for row, place in zip(rows, columns, strict=True)]
    apart, ties = Cells(), Cells()
    for i, row in enumerate(labels):
        for layer in (apart, ties):
            layer.start_row()
        for j, column in enumerate(labels):
            chance = both.get((i, j))
            if chance is None:
                apart.blank()
                ties.blank()
                continue
            told = "told apart" if chance.apart else "not told apart: a tie"
            value = f"{chance.probability:.2f}"
            note = (
                f"{text(row)} beats {text(column)}<br>with probability "
                f"<b>{value}</b> ({chance.low:.2f} to {chance.high:.2f})<br>{told}"
            )
            here, there = (apart, ties) if chance.apart else (ties, apart)
            cell = f"<b>{value}</b>" if chance.apart else value
            here.cell(chance.probability, cell if len(labels) <= 12 else "", note)
            there.blank()
    side = max(260, min(46 * len(labels) + 120, 640))
    return Figure(
        id=figure_id,
        title=_title(labels, chances),
        subtitle=f"{what}. Bold and in full colour: the data tell the two apart. Pale: a tie",
        data=[
            apart.trace(["against-2", "against-1", "even", "for-1", "for-2"]),
            ties.trace(["against-1", "even", "for-1"]),
        ],
        layout=grid(rows, columns),
        height=side,
        phone={"height": min(side, 420), "cells": "small"},
    )


def _title(labels: Sequence[str], chances: Mapping[tuple[int, int], Chance]) -> str:
    apart = sum(chance.apart for chance in chances.values())
    if len(chances) == 1:
        ((i, j), chance), *_ = chances.items()
        told = "the data tell the two apart" if chance.apart else "not enough to tell them apart"
        return f"{labels[i]} beats {labels[j]} with probability {chance.probability:.2f}: {told}"
    if apart == 0:
        return f"The data separate none of the {len(chances)} pairs"
    if apart == len(chances):
        return f"The data separate all {apart} pairs"
    return f"The data separate {apart} of {len(chances)} pairs; the rest are ties"
