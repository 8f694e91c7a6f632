"""Performance profiles: on how many workloads each submission is how much slower than the best."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from thalweg.report import look
from thalweg.report.figure import Figure, Spec, axis, colour, text
from thalweg.report.numbers import THIN, TIMES, number, percent
from thalweg.report.scores.facts import Scores, Submission, count
from thalweg.scoring.profile import CUT_OFF, performance_profile, ratios

LEADERS = 6
"""So many are drawn in full where there are more; the others stay pale until they are asked for."""


def build(scores: Scores) -> dict[str, Any]:
    """Return the plot of the profiles, and whether there are too many to see all at once."""
    many = len(scores.ranking) > LEADERS
    relative = ratios(scores.scoring.standing)
    # The best are drawn last, so that they lie on top.
    drawn = list(enumerate(scores.ranking))[::-1]
    pale = [many and place >= LEADERS for place, _ in drawn]
    traces = [_curve(one, relative[one.index]) for _, one in drawn]
    full = [_strength(one, False) for _, one in drawn]
    first = [_strength(one, faint) for (_, one), faint in zip(drawn, pale, strict=True)]
    figure = Figure(
        id="profile-figure",
        title=_title(scores),
        subtitle=f"Share of the {len(scores.base)} workloads on which the time to the target is "
        "at most so many times the least of all; the score is the area under the curve",
        data=[
            trace | change | {"line": {**trace["line"], **change["line"]}}
            for trace, change in zip(traces, first, strict=True)
        ],
        layout={
            "xaxis": {
                **axis("times the fastest submission's time (log scale)"),
                "type": "log",
                "range": [-0.012, math.log10(1.015 * CUT_OFF)],
                **_ticks(1, 1.25, 1.5, 2, 2.5, 3, 4),
            },
            "yaxis": axis("share of workloads", range=[-0.03, 1.04], tickformat=".0%"),
            "hovermode": "closest",
        },
        height=440,
        phone={"height": 340, "xaxis": _ticks(1, 1.5, 2, 3, 4)},
        variants={"first": {"data": first}, "everyone": {"data": full}} if many else {},
    )
    return {"figure": figure, "many": many, "leaders": LEADERS}


def _title(scores: Scores) -> str:
    first = scores.ranking[0]
    relative = ratios(scores.scoring.standing)[first.index]
    met = int(np.isfinite(relative).sum())
    if not met:
        return "Nobody met a target that counts"
    return (
        f"{first.label} is the fastest on {int((relative == 1).sum())} of "
        f"{count(len(scores.base), 'workload')}, and within {CUT_OFF:.0f} times the fastest on "
        f"{met}"
    )


def _ticks(*taus: float) -> Spec:
    texts = [f"{number(tau)}{THIN}{TIMES}" for tau in taus]
    return {"tickmode": "array", "tickvals": list(taus), "ticktext": texts}


def _curve(one: Submission, relative: np.ndarray) -> Spec:
    """Return the steps of a profile, exact and not on the grid of the table."""
    steps = np.unique(relative[np.isfinite(relative) & (relative <= CUT_OFF)])
    taus = np.unique([1.0, *steps, CUT_OFF])
    shares = performance_profile(relative, taus)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": taus.tolist(),
        "y": shares.tolist(),
        "name": text(one.label),
        "customdata": [
            f"<b>{percent(share)}</b> {text(one.label)}<br>within {number(tau)}{THIN}{TIMES} "
            "the fastest time"
            for tau, share in zip(taus.tolist(), shares.tolist(), strict=True)
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
        "line": {
            "color": colour(look.colour_name(one.index)),
            "dash": look.dash(one.index),
            "shape": "hv",
        },
        "marker": {"symbol": look.symbol(one.index), "size": 7},
        "cliponaxis": False,
        "meta": {"entrant": one.index},
    }


def _strength(one: Submission, pale: bool) -> Spec:
    return {"opacity": 0.22 if pale else 1.0, "line": {"width": 1.4 if pale else 2.4}}
