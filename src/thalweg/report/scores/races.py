"""Each of the races: its own verdict, its target and what it took."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from thalweg.race.many import Finished
from thalweg.report.numbers import number, seconds
from thalweg.report.scores.facts import Scores, count
from thalweg.report.sections.verdict import shortened


def build(scores: Scores) -> dict[str, Any] | None:
    """Return a card for each race, and the total, or None where no races were scored."""
    if scores.races is None:
        return None
    races = scores.races.races
    runs = count(sum(race.runs for race in races), "run")
    wall, processor = (
        _hours(math.fsum(math.nan if x is None else x for x in values))
        for values in (
            [race.wall_seconds for race in races],
            [race.cpu_seconds for race in races],
        )
    )
    return {
        "total": f"{count(len(races), 'race')} with {runs} took {wall} of wall time and "
        f"{processor} of processor time.",
        "cards": [_card(race, scores) for race in races],
    }


def _card(race: Finished, scores: Scores) -> dict[str, Any]:
    return {
        "title": race.title,
        "verdict": shortened(race.verdict, scores.labels),
        "link": link(race.folder / "report.html", scores.folder),
        "rows": [
            ("Target", f"{race.metric} {number(race.target, 4)}"),
            ("Runs", str(race.runs)),
            ("Wall time", _hours(race.wall_seconds)),
            ("Processor time", _hours(race.cpu_seconds)),
        ],
    }


def _hours(value: float | None) -> str:
    return "an unknown amount" if value is None or math.isnan(value) else seconds(value)


def link(page: Path, folder: Path) -> str:
    """Return the way from a folder to a page, as a relative address; "" if there is none."""
    if not page.is_file():
        return ""
    try:
        way = os.path.relpath(page, folder)
    except ValueError:  # on another drive
        return ""
    return quote(Path(way).as_posix())
