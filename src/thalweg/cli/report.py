"""``thalweg report``."""

from pathlib import Path
from typing import Annotated

import typer

from thalweg.cli.console import bars, console
from thalweg.cli.race import landscape_bar


def report(
    race: Annotated[Path, typer.Argument(help="Folder of a finished race.")],
    out: Annotated[
        Path | None, typer.Option(help="File to write. [report.html in the folder]")
    ] = None,
) -> None:
    """Write the report of a race again, from its store."""
    from thalweg.report import write_report

    with bars() as progress:
        page = write_report(race, out, progress=landscape_bar(progress))
    console().print(f"report: {page}", soft_wrap=True)
