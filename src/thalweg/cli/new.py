"""``thalweg new``."""

from pathlib import Path
from typing import Annotated

import typer

from thalweg.cli.console import console


def new(
    path: Annotated[Path, typer.Argument(help="File to write, such as my_task.py.")],
) -> None:
    """Write a commented task file that runs as it is, to make your own."""
    from thalweg.workload import write_template

    write_template(path)
    console().print(f"wrote {path}; try it: thalweg race {path}", soft_wrap=True)
