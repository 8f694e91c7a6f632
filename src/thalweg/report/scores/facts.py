"""What the sections of the page of scores share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from thalweg.race.many import Races
from thalweg.report import look
from thalweg.report.labels import short_labels
from thalweg.report.numbers import integer, number, seconds
from thalweg.scoring.tables import Scoring


@dataclass(frozen=True)
class Submission:
    """Somebody who is scored.

    Attributes:
        index: its place among the submissions, which decides its colour.
        name: its name in the tables.
        label: the name, shortened where it is a whole recipe.
    """

    index: int
    name: str
    label: str

    @property
    def row(self) -> dict[str, object]:
        """Return what a table's row begins with."""
        return {"name": self.name, "label": self.label, "swatch": look.swatch(self.index)}


@dataclass(frozen=True)
class Scores:
    """Scores as their page tells them.

    Attributes:
        scoring: the scores.
        races: the races that were scored, or None if it was a table of runs.
        command: the command that scores them again.
        folder: where the page will be.
    """

    scoring: Scoring
    races: Races | None
    command: str
    folder: Path

    @cached_property
    def submissions(self) -> list[Submission]:
        """Return who is scored, in the order of the tables of times."""
        names = self.scoring.times.submissions
        recipes = [self.races.recipes.get(name) if self.races else None for name in names]
        labels = short_labels(names, recipes)
        return [
            Submission(i, name, label)
            for i, (name, label) in enumerate(zip(names, labels, strict=True))
        ]

    @cached_property
    def ranking(self) -> list[Submission]:
        """Return them from the best to the worst."""
        return [self.submissions[i] for i in self.scoring.order]

    @property
    def labels(self) -> dict[str, str]:
        """Return the label of each name."""
        return {one.name: one.label for one in self.submissions}

    @property
    def base(self) -> Sequence[str]:
        """Return the workloads that are scored."""
        return self.scoring.suite.base

    @property
    def unit(self) -> str:
        """Return what times are measured in: ``seconds`` or ``steps``."""
        return self.races.unit if self.races else "seconds"

    @property
    def ruleset(self) -> str:
        """Return by which rules the submissions were tuned."""
        return self.races.ruleset if self.races else self.scoring.ruleset

    def table(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of one of the tables that are written as CSV."""
        head, rows = self.scoring.tables[name]
        return [dict(zip(head, row, strict=True)) for row in rows]

    def time(self, value: float) -> str:
        """Return a time to the target with its unit, or why there is none."""
        if math.isnan(value):
            return "no run"
        if math.isinf(value):
            return "not reached"
        if self.unit == "seconds":
            return seconds(value)
        return integer(round(value)) if value == round(value) else number(value)


def count(many: int, noun: str, plural: str | None = None) -> str:
    """Return a number of things, in words that agree with it."""
    return f"{integer(many)} {noun if many == 1 else plural or noun + 's'}"
