"""Other ways to rank: speed-ups, ratings, and ranks with somebody or something left out."""

from __future__ import annotations

import math
from typing import Any

from thalweg.report.cells import Cells, grid, narrow
from thalweg.report.chances import NAMED
from thalweg.report.figure import Figure, text
from thalweg.report.numbers import THIN, TIMES, number
from thalweg.report.scores.facts import Scores
from thalweg.scoring.profile import CUT_OFF


def speed_ups(scores: Scores) -> dict[str, Any] | None:
    """Return the heat map of mean ratios of times, or None where none is known."""
    known = {
        (row["submission"], row["reference"]): float(row["time_ratio"])
        for row in scores.table("speed_ups")
        if row["time_ratio"] != ""
    }
    if not known:
        return None
    cells, unknown = Cells(), Cells()
    for one in scores.ranking:
        for layer in (cells, unknown):
            layer.start_row()
        for other in scores.ranking:
            ratio = known.get((one.name, other.name))
            who = f"{text(one.label)} against {text(other.label)}"
            if ratio is not None:
                value = f"{number(ratio)}{TIMES}"
                note = f"{who}<br><b>{value}</b> the time, a speed-up of {_speed_up(ratio)}"
                bounded = max(-1.0, min(1.0, math.log(ratio) / math.log(CUT_OFF)))
                cells.cell(bounded, value if len(scores.ranking) <= 12 else "", note)
                unknown.blank()
            else:
                cells.blank()
                same = one is other
                unknown.cell(*((None, "", "") if same else (0.0, "", f"{who}<br>unknown")))
    labels = [text(one.label) for one in scores.ranking]
    columns = labels
    if len(labels) > NAMED:
        columns = [str(i + 1) for i in range(len(labels))]
        labels = [f"{label}  {place}" for label, place in zip(labels, columns, strict=True)]
    side = max(260, min(46 * len(labels) + 120, 640))
    missing = len(known) < len(scores.ranking) * (len(scores.ranking) - 1)
    return {
        "figure": Figure(
            id="speed-ups-figure",
            title=_title(scores, known),
            subtitle="Time of the row's submission over that of the column's, geometric mean over "
            "workloads. A miss counts as the allowed time and one second",
            data=[
                cells.trace(["for-2", "for-1", "even", "against-1", "against-2"], -1.0, 1.0),
                unknown.trace(["sunken", "sunken"]),
            ],
            layout=grid(labels, columns),
            height=side,
            phone={"height": min(side, 420), "cells": narrow(len(scores.ranking))},
            note="Grey: unknown, because a target was not reached and the time that was allowed "
            "is not known, or there is no run."
            if missing
            else "",
        )
    }


def _speed_up(ratio: float) -> str:
    return f"{number(100 * (1 - ratio))}{THIN}%"


def _title(scores: Scores, known: dict[tuple[str, str], float]) -> str:
    first = scores.ranking[0]
    own = [ratio for (one, _), ratio in known.items() if one == first.name]
    if not own:
        return "Mean ratios of times"
    low, high = (f"{number(end)}{TIMES}" for end in (min(own), max(own)))
    if len(own) == 1:
        return f"On average {first.label} takes {low} the time of the other one"
    return f"On average {first.label} takes from {low} to {high} the time of the others"


def ratings(scores: Scores) -> dict[str, Any] | None:
    """Return Nash averages, Borda's count and the mean rank, or None of one submission."""
    if len(scores.ranking) < 2:
        return None
    by_name = {row["submission"]: row for row in scores.table("ratings")}
    columns = (
        ("nash_rating", 3),
        ("nash_weight", 3),
        ("nash_task_rating", 3),
        ("nash_task_weight", 3),
        ("borda", 4),
        ("mean_rank", 3),
    )
    return {
        "rows": [
            one.row
            | {key: number(_rounded(by_name[one.name][key]), digits) for key, digits in columns}
            for one in scores.ranking
        ],
    }


def _rounded(value: float) -> float:
    """Return a rating without the crumbs that a solver leaves beside 0."""
    return 0.0 if abs(value) < 5e-7 else float(value)


def left_out(scores: Scores) -> dict[str, Any] | None:
    """Return ranks without each workload, and their range without each other submission."""
    table = scores.table("leave_one_out")
    ranks: dict[str, dict[str, dict[str, int]]] = {"workload": {}, "submission": {}}
    for row in table:
        ranks[row["kind"]].setdefault(row["submission"], {})[row["left_out"]] = row["rank"]
    if not table:
        return None
    workloads = list(scores.base) if ranks["workload"] else []
    rows = []
    for one in scores.ranking:
        rank = int(scores.scoring.ranks[one.index])
        found = [ranks["workload"][one.name][name] for name in workloads]
        others = list(ranks["submission"].get(one.name, {}).values())
        rows.append(
            one.row
            | {
                "rank": str(rank),
                "cells": [{"text": str(each), "changed": each != rank} for each in found],
                "others": _range(others),
            }
        )
    return {"workloads": workloads, "rows": rows, "title": _stability(rows)}


def _range(ranks: list[int]) -> str:
    if not ranks:
        return ""
    low, high = min(ranks), max(ranks)
    return str(low) if low == high else f"{low} to {high}"


def _stability(rows: list[dict[str, Any]]) -> str:
    changed = sum(any(cell["changed"] for cell in row["cells"]) for row in rows)
    if not rows[0]["cells"]:
        return "Ranks without one submission"
    if not changed:
        return "No rank depends on a single workload"
    return f"{changed} of {len(rows)} ranks depend on a single workload"
