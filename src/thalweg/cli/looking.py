"""What the commands that look around solutions share: their options, and what they write."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from thalweg.cli.console import bars, console, error_console

Where = Annotated[
    str,
    typer.Argument(
        help="A name of `thalweg list workload`, the path of your task file, or a race's folder."
    ),
]
Which = Annotated[
    list[str],
    typer.Argument(
        help="Weights: files in safetensors, name=file to name them; of a race, entrants."
    ),
]
Samples = Annotated[int, typer.Option(help="Training samples (and as many held-out ones).")]
Out = Annotated[Path, typer.Option(help="Folder for the data and the figure.")]
Figure = Annotated[str, typer.Option("--figure", help="svg, pdf, png, or none.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps, ...")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]


def prepare(out: Path, name: str, figure: str) -> Path | None:
    """Check, before any work, that the results can be written; return the figure's path.

    Raises:
        UsageError: the folder cannot be written to, or figures of that kind cannot be made.
    """
    from thalweg.core.files import check_folder
    from thalweg.landscape.figures.style import check_file

    check_folder(out)
    return None if figure == "none" else check_file(out / f"{name}.{figure}")


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show how many of how many points are done and the time left."""
    with bars() as screen:
        task = screen.add_task(what, total=None, left=None, note="")

        def update(done: int, total: int) -> None:
            left = screen.tasks[0].time_remaining
            screen.update(task, completed=done, total=total, left=left)

        yield update


def write(result: Any, out: Path, name: str, figure: Path | None, **options: Any) -> None:
    """Save a result as npz and JSON, draw its figure, and say where they are.

    An interactive page of the result, once there is one, is written here.
    """
    console().print(f"data: {result.save(out / f'{name}.npz')}", soft_wrap=True)
    if figure is not None:
        result.plot(figure, **options)
        console().print(f"figure: {figure}", soft_wrap=True)


def remark(text: str) -> None:
    """Print a note to standard error."""
    error_console().print(f"note: {text}", soft_wrap=True)
