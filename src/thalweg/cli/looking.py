"""What the commands that look around solutions share: their options, and what they write."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from thalweg.cli.console import bars, console, error_console, number
from thalweg.core.errors import UsageError


class Statistics(StrEnum):
    """What batch-norm statistics are at weights that were not trained."""

    recalibrate = "recalibrate"
    interpolate = "interpolate"
    frozen = "frozen"


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
Out = Annotated[Path, typer.Option(help="Folder for data, figure and page.")]
Figure = Annotated[str, typer.Option("--figure", help="svg, pdf, png, or none.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps, ...")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
BatchNorm = Annotated[
    Statistics | None,
    typer.Option(
        "--batch-norm",
        help="Statistics at each point: recomputed on training samples (the default between "
        "points), mixed like weights, or kept as they are (the default around one point).",
    ),
]


def around(chosen: Statistics | None) -> Any:
    """Return the batch-norm policy around one point.

    Raises:
        UsageError: one that takes several points.
    """
    if chosen == Statistics.interpolate:
        raise UsageError(
            "--batch-norm interpolate mixes the statistics of several points, and this is "
            "evaluated around one; choose frozen or recalibrate"
        )
    return (chosen or Statistics.frozen).value


def between(chosen: Statistics | None, *, frozen: bool) -> Any:
    """Return the batch-norm policy between points.

    Args:
        chosen: of the command line.
        frozen: whether one point's statistics can be kept.

    Raises:
        UsageError: they cannot, and were asked for.
    """
    if chosen == Statistics.frozen and not frozen:
        raise UsageError(
            "--batch-norm frozen keeps the statistics of one point, and this mixes several; "
            "choose recalibrate or interpolate"
        )
    return (chosen or Statistics.recalibrate).value


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


def say_rises(result: Any, than: str) -> None:
    """Print how far each loss along a way rises."""
    for name in (None, *result.also):
        if name is None or name.endswith("loss"):
            words = f"{name or 'train loss'}: {number(result.rise(name))} {than} at most"
            console().print(words)


def write(
    result: Any,
    out: Path,
    name: str,
    figure: Path | None,
    *,
    title: str | None = None,
    look: str = "studio",
    **options: Any,
) -> None:
    """Save a result as npz and JSON, draw its figure, write its page, and say where they are.

    Args:
        result: what was measured.
        out: the folder.
        name: of the files.
        figure: where the figure goes, if one is wanted.
        title: what the page is of; no page is written without it.
        look: of a page of surfaces.
        options: of figure and page, such as the clip.
    """
    console().print(f"data: {result.save(out / f'{name}.npz')}", soft_wrap=True)
    if figure is not None:
        result.plot(figure, **options)
        console().print(f"figure: {figure}", soft_wrap=True)
    if title is not None:
        from thalweg.report import write_landscape

        page = write_landscape(result, out / f"{name}.html", title=title, look=look, **options)
        console().print(f"page: {page}", soft_wrap=True)


def prepare_exports(paths: list[Path]) -> None:
    """Check, before any work, that files for other programs can be written.

    Raises:
        UsageError: a suffix that is none of theirs, or matplotlib is missing for a film.
    """
    from thalweg.core.errors import UsageError
    from thalweg.landscape.export import check_export
    from thalweg.landscape.figures.film import check_film

    for path in paths:
        if path.suffix.lower() not in (".glb", ".vtu", ".gif"):
            raise UsageError(f"a surface is exported to .glb, .vtu or .gif; found {path}")
        (check_film if path.suffix.lower() == ".gif" else check_export)(path)


def write_exports(result: Any, paths: list[Path], clip: float | None) -> None:
    """Write a surface for other programs, by the suffix of each file."""
    for path in paths:
        if path.suffix.lower() == ".gif":
            with progress_bar("film") as progress:
                result.film(path, clip=clip, progress=progress)
        else:
            result.export(path, clip=clip)
        console().print(f"export: {path}", soft_wrap=True)


def byte_count(gigabytes: float) -> int:
    """Return gigabytes in bytes; raise UsageError unless they are a positive, finite number."""
    if not 1 <= gigabytes * 1e9 < float("inf"):
        raise UsageError(f"--shard-size must be a positive, finite number, found {gigabytes}")
    return int(gigabytes * 1e9)


def float_dtype(name: str) -> Any:
    """Return torch's dtype of a name.

    Raises:
        UsageError: there is no such float.
    """
    import torch

    from thalweg.core.checks import check_choice

    check_choice("--dtype", name, ("float32", "bfloat16", "float16", "float64"))
    return getattr(torch, name)


def remark(text: str) -> None:
    """Print a note to standard error."""
    error_console().print(f"note: {text}", soft_wrap=True)
