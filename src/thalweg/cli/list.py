"""``thalweg list``."""

import inspect
import json
import math
from typing import Annotated, Any

import typer
from rich.table import Table

from thalweg.cli.console import console


def list_parts(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="rule, modifier, around, schedule, average, merge, searcher, logger or workload."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the parts of recipes, the merges, the searchers, the loggers and the workloads.

    JSON holds for each id, kind, other kinds that it is listed under, name, reference, summary,
    parameters with their defaults, and the search space.
    """
    import thalweg.log
    import thalweg.merge
    import thalweg.recipe
    import thalweg.tune  # noqa: F401 - the imports fill the registry
    from thalweg.core import registry
    from thalweg.core.errors import UnknownNameError

    rows = [*map(_part, registry.parts()), *_workloads()]
    kinds = sorted({row["kind"] for row in rows})
    if kind is not None and kind not in kinds:
        raise UnknownNameError("kind", kind, kinds)
    rows = [row for row in rows if kind in (None, row["kind"], *row["also"])]
    if as_json:
        typer.echo(json.dumps(rows, indent=2, allow_nan=False))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("id", "kind", "name", "reference"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(row["id"], row["kind"], row["name"], row["reference"])
    console().print(table)


def _part(part: Any) -> dict[str, Any]:
    return {
        "id": part.slug,
        "kind": part.kind,
        "also": list(part.also),
        "name": part.name,
        "reference": part.reference,
        "summary": part.summary,
        "parameters": {name: _plain(value) for name, value in part.parameters.items()},
        "space": {name: space.describe() for name, space in part.space.items()},
    }


def _plain(value: Any) -> Any:
    """Return a default as JSON has it: infinity as a string, a missing default as "required"."""
    if value is inspect.Parameter.empty:
        return "required"
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _workloads() -> list[dict[str, Any]]:
    from thalweg import workload

    return [
        {
            "id": facts["name"],
            "kind": "workload",
            "also": [],
            "name": facts["title"],
            "reference": facts["data_source"],
            "summary": facts["description"],
            "parameters": {"steps": facts["steps"], "batch_size": facts["batch_size"]},
            "space": {},
        }
        for facts in workload.describe()
    ]
