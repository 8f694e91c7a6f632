"""How probably a run of one entrant beats a run of another, over the workloads of several races."""

from __future__ import annotations

from typing import Any

from thalweg.race.improvement import Improvement
from thalweg.report import look
from thalweg.report.chances import NAMED, Chance, chance_map
from thalweg.report.numbers import number, percent
from thalweg.report.scores.facts import Scores, count

SHOWN = 15
"""Pairs up to which the table is not folded away."""


def build(scores: Scores) -> dict[str, Any] | None:
    """Return the heat map and a table of every pair, or None where nobody can be compared."""
    found = scores.races.improvements if scores.races else ()
    if not found:
        return None
    place = {one.name: i for i, one in enumerate(scores.ranking)}
    chances = {
        (place[one.a], place[one.b]): Chance(
            one.probability, one.low, one.high, one.better is not None
        )
        for one in found
    }
    rows = [_row(one, scores) for one in sorted(found, key=lambda one: _order(one, place))]
    return {
        "figure": chance_map(
            "pairs",
            [one.label for one in scores.ranking],
            chances,
            "Probability that a run of the row's entrant beats one of the column's, mean over "
            "workloads",
        ),
        "many": len(scores.ranking) > NAMED,
        "rows": rows,
        "folded": len(rows) > SHOWN,
        "too_few": _too_few(found),
    }


def _order(one: Improvement, place: dict[str, int]) -> tuple[int, int]:
    a, b = place[one.a], place[one.b]
    return min(a, b), max(a, b)


def _row(one: Improvement, scores: Scores) -> dict[str, str]:
    """Return a pair, the one who wins more often first."""
    labels = scores.labels
    turned = one.probability < 0.5
    a, b = (one.b, one.a) if turned else (one.a, one.b)
    chance = Chance(one.probability, one.low, one.high, one.better is not None)
    wide = Chance(one.probability, one.wide_low, one.wide_high, chance.apart)
    if turned:
        chance, wide = chance.turned, wide.turned
    wins = one.losses if turned else one.wins
    index = {each.name: each.index for each in scores.submissions}
    return {
        "a": labels[a],
        "b": labels[b],
        "swatch_a": look.swatch(index[a]),
        "swatch_b": look.swatch(index[b]),
        "workloads": str(one.workloads),
        "chance": f"{chance.probability:.2f}",
        "interval": f"{chance.low:.2f} to {chance.high:.2f}",
        "wide": f"{wide.low:.2f} to {wide.high:.2f}",
        "wins": f"{wins} of {one.wins + one.losses}",
        "rate": number(one.p_adjusted, 2),
        "told": "told apart" if one.better else "tie",
    }


def _too_few(found: tuple[Improvement, ...]) -> str:
    """Return a sentence if not even winning every run would have told a pair apart."""
    runs = max(one.wins + one.losses for one in found)
    # At best all pairs have the least p-value, which the correction multiplies by 1 + 1/2 + ...
    factor = sum(1 / k for k in range(1, len(found) + 1))
    least = min(1.0, 2 * 0.5**runs) * factor
    if least < 0.05:
        return ""
    return (
        f"{count(runs, 'run')} of each, paired by seed, are too few to tell anybody apart by this "
        f"test: even who wins all of them stays at a false-discovery rate of "
        f"{percent(min(least, 1.0))}. Race on more workloads, or with more seeds."
    )
