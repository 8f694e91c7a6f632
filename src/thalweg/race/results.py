"""The files beside the store: `results.csv` and `verdict.json`."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from thalweg.core.files import write_atomically
from thalweg.race.rows import COLUMNS, RunRow
from thalweg.race.standings import Verdict
from thalweg.race.store import Store


def write_results(store: Store) -> None:
    """Write `results.csv`: a row for every run of an entrant so far.

    Runs of a hidden baseline, which only sets the target, are in the store alone.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in store.runs():
        if row.phase != "target":
            writer.writerow([_cell(row, column) for column in COLUMNS])
    write_atomically(store.folder / "results.csv", text.getvalue())


def write_verdict(store: Store, verdict: Verdict) -> None:
    """Write `verdict.json`."""
    text = json.dumps(verdict.to_dict(), indent=2, allow_nan=False, ensure_ascii=False)
    write_atomically(store.folder / "verdict.json", text + "\n")


def _cell(row: RunRow, column: str) -> Any:
    value = getattr(row, column)
    return "" if value is None else value
