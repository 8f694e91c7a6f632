"""What the pages of one result have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from thalweg.report.figure import Figure

Rows = list[tuple[str, str]]

LEGEND = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}


def page_of(
    kind: str,
    headline: str,
    finding: str,
    figure: Figure,
    rows: Rows,
    table: tuple[Sequence[str], Sequence[Sequence[str]]],
) -> dict[str, Any]:
    """Return what the template of such pages takes."""
    return {
        "kind": kind,
        "headline": headline,
        "finding": finding,
        "figure": dataclasses.replace(figure, title=headline),
        "rows": rows,
        "columns": table[0],
        "body": table[1],
    }
