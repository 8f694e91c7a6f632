"""The application: its commands, and how errors leave it."""

import sys

import typer

from thalweg._version import __version__
from thalweg.cli import (
    align,
    average,
    barrier,
    connect,
    line,
    merge,
    new,
    race,
    report,
    score,
    serve,
    sharpness,
    spectrum,
    surface,
    train,
    tune,
    work,
)
from thalweg.cli import list as list_command
from thalweg.cli.console import error_console
from thalweg.core.errors import UsageError

app = typer.Typer(
    name="thalweg",
    help="Training algorithms for PyTorch, and which of them serves your network.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("race")(race.race)
app.command("average")(average.average)
app.command("merge")(merge.merge)
app.command("align")(align.align)
app.command("new")(new.new)
app.command("list")(list_command.list_parts)
app.command("report")(report.report)
app.command("score")(score.score)
app.command("serve")(serve.serve)
app.command("train")(train.train)
app.command("tune")(tune.tune)
app.command("work")(work.work)
app.command("surface")(surface.surface)
app.command("line")(line.line)
app.command("connect")(connect.connect)
app.command("barrier")(barrier.barrier)
app.command("spectrum")(spectrum.spectrum)
app.command("sharpness")(sharpness.sharpness)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"thalweg {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and stop."
    ),
) -> None:
    del version


def main() -> None:
    """Run the command line; unusable input ends it with one message and exit code 2."""
    try:
        app()
    except UsageError as error:
        error_console().print(f"[bold red]error:[/] {_escape(str(error))}", soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        error_console().print("interrupted; the same command continues where it was")
        sys.exit(130)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
