"""The page of a race: one HTML file that needs nothing else."""

import os
from pathlib import Path
from typing import Any

from thalweg._version import __version__
from thalweg.core.errors import UsageError
from thalweg.core.files import write_atomically
from thalweg.race.store import Store
from thalweg.report import assets, look
from thalweg.report.facts import Race, read_race
from thalweg.report.figure import Figure, to_json
from thalweg.report.sections import (
    cost,
    curves,
    landscape,
    method,
    pairs,
    recipes,
    tuning,
    verdict,
)
from thalweg.report.terrain import Progress, Terrain, terrain


def write_report(
    race: Store | str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the page of a finished race: one file that works offline, from ``file://`` too.

    The landscape is computed if the race's folder does not hold it yet; a few seconds for a small
    network.

    Args:
        race: the race's folder, or its store.
        out: the file to write; ``report.html`` in the race's folder if not given.
        progress: told how many of how many points of the landscape are evaluated.

    Returns:
        The path of the page.

    Raises:
        UsageError: there is no race, it is not finished, another version wrote it, or the page
            cannot be written.
    """
    if not isinstance(race, Store):
        with Store.open(race) as store:
            return write_report(store, out, progress)
    path = Path(out) if out is not None else race.folder / "report.html"
    if path.is_dir():
        raise UsageError(f"cannot write the page to {path}: it is a folder; name a file")
    if not path.parent.is_dir():
        raise UsageError(f"cannot write the page to {path}: {path.parent} is no folder")
    facts = read_race(race)
    return write_page(path, render(facts, terrain(race, facts, progress)))


def render(race: Race, ground: Terrain) -> str:
    """Return the HTML of the page."""
    sections: dict[str, Any] = {
        "verdict": verdict.build(race),
        "curves": curves.build(race),
        "pairs": pairs.build(race),
        "tuning": tuning.build(race),
        "cost": cost.build(race),
        "landscape": landscape.build(race, ground),
        "recipes": recipes.build(race),
        "method": method.build(race),
    }
    return fill(
        "page.html.j2",
        sections,
        race=race,
        legend=look.legend(race.ranking),
    )


def write_page(path: Path, page: str) -> Path:
    """Write a page, whole or not at all; return its path.

    Raises:
        UsageError: the system refused.
    """
    try:
        write_atomically(path, page)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"cannot write the page to {path}: {reason}") from error
    return path


def fill(template: str, sections: dict[str, Any], **context: Any) -> str:
    """Return the HTML of a page: a template with its sections, the look and every figure."""
    figures = _figures(sections)
    return (
        assets.environment()
        .get_template(template)
        .render(
            **sections,
            **context,
            theme=look.theme_css(),
            style=assets.static("page.css"),
            script=assets.static("page.js"),
            early_script=assets.static("theme.js"),
            figures=to_json({figure.id: figure.spec() for figure in figures}),
            plotly=assets.plotly() if figures else "",
            version=__version__,
        )
    )


def _figures(section: Any) -> list[Figure]:
    """Return every figure that the sections hold."""
    if isinstance(section, Figure):
        return [section]
    if isinstance(section, dict):
        return [figure for part in section.values() for figure in _figures(part)]
    if isinstance(section, list):
        return [figure for part in section for figure in _figures(part)]
    return []
