"""Times to the target: as measured, and as ratios to the fastest."""

from __future__ import annotations

import math
from typing import Any

from markupsafe import Markup

from thalweg.report.cells import Cells, grid, narrow
from thalweg.report.figure import Figure, text
from thalweg.report.numbers import TIMES
from thalweg.report.scores.facts import Scores, Submission
from thalweg.scoring.profile import CUT_OFF, ratios

WRITTEN = 16
"""Workloads up to which the cells of the heat map carry numbers."""


def build(scores: Scores) -> dict[str, Any]:
    """Return the heat map of ratios and the table of times, held-out variants included."""
    table = scores.scoring.times
    fastest = {
        j: min((v for v in table.values[:, j] if math.isfinite(v)), default=None)
        for j in range(len(table.workloads))
    }
    return {
        "figure": _figure(scores),
        "unit": scores.unit,
        # A break after each underscore, where long names may be cut.
        "columns": [Markup("_<wbr>").join(name.split("_")) for name in table.workloads],
        "rows": [
            one.row
            | {
                "cells": [
                    _cell(scores, one, j, value, value == fastest[j])
                    for j, value in enumerate(table.values[one.index])
                ]
            }
            for one in scores.ranking
        ],
        "variants": len(scores.scoring.suite.variants),
    }


def _cell(scores: Scores, one: Submission, j: int, value: float, best: bool) -> dict[str, Any]:
    name = scores.scoring.times.workloads[j]
    reached = math.isfinite(value)
    struck = reached and name in scores.base and not _counts(scores, one, name)
    return {
        "text": scores.time(value),
        "note": "does not count" if struck else "",
        "best": best,
        "reached": reached,
    }


def _counts(scores: Scores, one: Submission, name: str) -> bool:
    return math.isfinite(scores.scoring.standing[one.index, scores.base.index(name)])


def _figure(scores: Scores) -> Figure:
    table = scores.scoring.times
    relative = ratios(scores.scoring.standing)
    met, missed = Cells(), Cells()
    written = len(scores.base) <= WRITTEN
    for one in scores.ranking:
        for layer in (met, missed):
            layer.start_row()
        for j, name in enumerate(scores.base):
            value = float(relative[one.index, j])
            time = scores.time(table.values[one.index, table.workloads.index(name)])
            steps = " steps" if scores.unit == "steps" else ""
            who = f"{text(one.label)} on {text(name)}"
            if math.isfinite(value):
                ratio = f"{value:.2f}{TIMES}"
                met.cell(
                    math.log(value),
                    ratio if written else "",
                    f"{who}<br><b>{ratio}</b> the fastest time: {time}{steps}",
                )
                missed.blank()
                continue
            met.blank()
            if time == "no run":
                missed.cell(0.0, "no run", f"{who}<br>no run")
            elif time == "not reached":
                missed.cell(1.0, "miss", f"{who}<br><b>not reached</b>")
            else:
                missed.cell(1.0, "miss", f"{who}<br><b>does not count</b>: {time}{steps}")
    layout = grid([text(one.label) for one in scores.ranking], [text(one) for one in scores.base])
    return Figure(
        id="ratios",
        title=_title(scores),
        subtitle="Time over that of the fastest, as it is scored. Misses, in the warm colour: not "
        f"reached, or it does not count, because it took more than {CUT_OFF:.0f} times the fastest"
        + (" or missed a held-out variant" if scores.scoring.suite.variants else ""),
        data=[
            met.trace(["for-2", "for-1", "even"], 0.0, math.log(CUT_OFF)),
            missed.trace(["sunken", "against-1"]),
        ],
        layout=layout,
        height=140 + 34 * min(len(scores.ranking), 28),
        phone={"cells": narrow(len(scores.base))},
    )


def _title(scores: Scores) -> str:
    relative = ratios(scores.scoring.standing)
    wins = [(int((relative[one.index] == 1).sum()), one.label) for one in scores.ranking]
    fast = [label for count, label in wins if count]
    if not fast:
        return "Nobody met a target that counts"
    if len(fast) == 1:
        return f"{fast[0]} is the fastest wherever a target is met"
    most = max(count for count, _ in wins)
    often = [label for count, label in wins if count == most]
    who = f"{often[0]} most often, on" if len(often) == 1 else "nobody on more than"
    return (
        f"{len(fast)} submissions are the fastest on some workload, {who} {most} of "
        f"{len(scores.base)}"
    )
