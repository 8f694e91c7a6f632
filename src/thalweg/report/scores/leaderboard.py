"""Who scores best, how sure that is, and the leaderboard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from thalweg.race.sentences import listing
from thalweg.report import look
from thalweg.report.numbers import integer, percent
from thalweg.report.scores.facts import Scores, Submission, count
from thalweg.scoring.profile import ratios

FEW = 3
"""Under so many studies, drawing them again says little."""


def build(scores: Scores) -> dict[str, Any]:
    """Return headline, sentences, facts and the rows of the leaderboard."""
    return {
        "eyebrow": _eyebrow(scores),
        "headline": _headline(scores),
        "lead": _lead(scores),
        "sentences": list(_sentences(scores)),
        "warnings": [*_few_studies(scores), *_notes(scores)],
        "facts": _facts(scores),
        "rows": [_row(one, scores) for one in scores.ranking],
    }


def _eyebrow(scores: Scores) -> str:
    if scores.races:
        return f"{count(len(scores.races.races), 'race')} scored together"
    version = scores.scoring.suite.version
    return f"AlgoPerf scores{f', {version}' if version else ''}"


def _top(scores: Scores) -> list[Submission]:
    return [one for one in scores.ranking if scores.scoring.ranks[one.index] == 1]


def _headline(scores: Scores) -> str:
    top, found = _top(scores), scores.scoring.uncertainty
    if not scores.scoring.score.any():
        return "Nobody scores"
    if len(scores.ranking) == 1:
        return f"{top[0].label} was scored alone"
    if len(top) > 1:
        if len(top) <= 3:
            return f"A tie: {listing(one.label for one in top)}"
        return f"A tie between {len(top)} submissions"
    sure = found.rank_high[top[0].index] == 1 and _fewest(scores) >= FEW
    return f"{top[0].label} comes first" if sure else f"No clear winner: {top[0].label} leads"


def _lead(scores: Scores) -> str:
    if not scores.scoring.score.any():
        return (
            "No submission met a target that counts, so there is nothing to compare: all score 0."
        )
    first = scores.ranking[0]
    found, i = scores.scoring.uncertainty, first.index
    told = f"{first.label} scores {_score(scores, i)}."
    if len(scores.ranking) == 1:
        return f"{told} It is the fastest wherever it meets the target."
    ranks = _ranks(scores, i)
    place = f"its rank is {ranks}" if " " not in ranks else f"its rank lies between {ranks}"
    return (
        f"{told} When the studies are drawn again, nobody scores higher in "
        f"{percent(found.first[i])} of the resamples, and {place.replace(' to ', ' and ')} in "
        f"95\N{NARROW NO-BREAK SPACE}% of them."
    )


def _sentences(scores: Scores) -> Iterator[str]:
    ranking, scoring = scores.ranking, scores.scoring
    if not scoring.score.any() or len(ranking) == 1:
        return
    top = [one for one in _top(scores) if one is not ranking[0]]
    if top:
        yield f"{listing(one.label for one in top)} score the same."
    behind = ranking[1 + len(top) :]
    if behind:
        i = behind[0].index
        yield (
            f"Next is {behind[0].label} with {_score(scores, i)}; it is first in "
            f"{percent(scoring.uncertainty.first[i])} of the resamples."
        )
    yield from _without_one(scores)
    yield from _told_apart(scores)


def _without_one(scores: Scores) -> Iterator[str]:
    """Yield whether the first stays first without any one workload."""
    first = scores.ranking[0]
    own = [
        row
        for row in scores.table("leave_one_out")
        if row["kind"] == "workload" and row["submission"] == first.name
    ]
    lost = [row["left_out"] for row in own if row["rank"] > 1]
    if not own:
        return
    if lost:
        yield f"{first.label} is not first without the workload {_any(lost)}."
    else:
        yield f"{first.label} is first without any one of the workloads, too."


def _any(names: list[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _told_apart(scores: Scores) -> Iterator[str]:
    found = scores.races.improvements if scores.races else ()
    if not found:
        return
    apart = [one for one in found if one.better]
    yield (
        f"Run against run, the data tell {integer(len(apart))} of {count(len(found), 'pair')} "
        f"apart over {count(len(scores.base), 'workload')}; the rest are ties."
        if len(apart) < len(found)
        else f"Run against run, the data tell all pairs apart ({len(found)})."
    )


def _few_studies(scores: Scores) -> Iterator[str]:
    fewest = _fewest(scores)
    if fewest < FEW:
        yield (
            f"Some times come from {'one study' if fewest == 1 else f'{fewest} studies'}: drawing "
            "studies again hardly varies them, so intervals and shares below look surer than "
            "they are."
        )


def _notes(scores: Scores) -> list[str]:
    notes = (*scores.scoring.notes, *(scores.races.notes if scores.races else ()))
    return [f"{note[:1].upper()}{note[1:]}." for note in notes]


def _fewest(scores: Scores) -> int:
    """Return the least number of studies of those times that there are."""
    studies = scores.scoring.studies
    return int(studies[studies > 0].min(initial=10**9))


def _facts(scores: Scores) -> list[tuple[str, str]]:
    scoring = scores.scoring
    workloads = integer(len(scores.base))
    if scoring.suite.variants:
        workloads += f", {count(len(scoring.suite.variants), 'held-out variant')}"
    counts = scoring.studies[scoring.studies > 0]
    low, high = int(counts.min(initial=10**9)), int(counts.max(initial=0))
    studies = "none"
    if high:
        studies = f"{low} to {high}" if low < high else str(high)
    runs = "Studies of each" if scores.ruleset == "external" else "Runs of each"
    return [
        ("Submissions", integer(len(scores.ranking))),
        ("Workloads", workloads),
        (runs, studies),
        ("Ruleset", scores.ruleset),
        ("Scored by", "training time" if scores.unit == "seconds" else "steps of training"),
    ]


def _row(one: Submission, scores: Scores) -> dict[str, Any]:
    scoring, i = scores.scoring, one.index
    found, rank = scoring.uncertainty, int(scoring.ranks[i])
    shared = int((scoring.ranks == rank).sum()) > 1
    low, high = found.score_low[i], found.score_high[i]
    return one.row | {
        "rank": f"{rank}=" if shared else str(rank),
        "colour": look.colour_name(i),
        "score": f"{scoring.score[i]:.4f}",
        "interval": _interval(scores, i),
        "bar": {
            "left": round(100 * low, 2),
            "width": round(100 * (high - low), 2),
            "dot": round(100 * scoring.score[i], 2),
            "off": "",
        },
        "ranks": _ranks(scores, i),
        "first": percent(found.first[i]),
        "fastest": integer(int((ratios(scoring.standing)[i] == 1).sum())),
        "solved": f"{int(np.isfinite(scoring.standing[i]).sum())} of {len(scores.base)}",
    }


def _score(scores: Scores, i: int) -> str:
    return f"{scores.scoring.score[i]:.4f} ({_interval(scores, i)})"


def _interval(scores: Scores, i: int) -> str:
    found = scores.scoring.uncertainty
    return f"{found.score_low[i]:.3f} to {found.score_high[i]:.3f}"


def _ranks(scores: Scores, i: int) -> str:
    low, high = (
        int(end[i])
        for end in (scores.scoring.uncertainty.rank_low, scores.scoring.uncertainty.rank_high)
    )
    return str(low) if low == high else f"{low} to {high}"
