"""The page of scores: what it holds, and where it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thalweg.race.many import Races
from thalweg.report import look
from thalweg.report.page import fill, write_page
from thalweg.report.scores import (
    leaderboard,
    method,
    pairs,
    profiles,
    races,
    rankings,
    times,
)
from thalweg.report.scores.facts import Scores
from thalweg.scoring.tables import Scoring


def write_score_report(
    scoring: Scoring, folder: Path, scored: Races | None = None, command: str = ""
) -> Path:
    """Write the page of scores: one file that works offline, ``report.html`` in a folder.

    Args:
        scoring: the scores.
        folder: an existing folder.
        scored: the races they are of, or None if they are of a table of runs.
        command: the command that scores them again.

    Returns:
        The path of the page.

    Raises:
        UsageError: the page cannot be written.
    """
    return write_page(folder / "report.html", render(Scores(scoring, scored, command, folder)))


def render(scores: Scores) -> str:
    """Return the HTML of the page; what there are no data for is left out."""
    sections: dict[str, Any] = {
        "board": leaderboard.build(scores),
        "profiles": profiles.build(scores),
        "times": times.build(scores),
        "pairs": pairs.build(scores),
        "speed_ups": rankings.speed_ups(scores),
        "ratings": rankings.ratings(scores),
        "left_out": rankings.left_out(scores),
        "races": races.build(scores),
        "method": method.build(scores),
    }
    return fill("scores.html.j2", sections, legend=look.legend(scores.ranking))
