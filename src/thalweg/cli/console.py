"""Where commands print: results to standard output, progress and errors to standard error."""

from collections.abc import Iterable

from rich.console import Console, Group
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
)
from rich.text import Text


def console() -> Console:
    """Return the console for results; plain text when it is not a terminal or NO_COLOR is set."""
    return Console(highlight=False)


def error_console() -> Console:
    """Return the console for progress and errors."""
    return Console(stderr=True, highlight=False)


class Left(ProgressColumn):
    """Shows the estimate of the time left that the work itself gives."""

    def render(self, task: Task) -> Text:
        """Return the text of one task."""
        return Text(duration(task.fields.get("left"), " left"), style="dim")


def bars() -> Progress:
    """Return a progress display on standard error, silent when that is no terminal."""
    screen = error_console()
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        Left(),
        TextColumn("{task.fields[note]}", style="dim"),
        console=screen,
        transient=True,
        disable=not screen.is_terminal,
    )


def duration(seconds: float | None, suffix: str = "") -> str:
    """Return seconds for people, or nothing if they are not known."""
    if seconds is None:
        return ""
    if seconds < 59.5:
        return f"{seconds:.0f} s{suffix}"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min{suffix}"
    return f"{minutes // 60} h {minutes % 60} min{suffix}"


def number(value: float | None) -> str:
    """Return a metric with four significant digits, or a dash."""
    return "-" if value is None else f"{value:.4g}"


def paragraphs(texts: Iterable[str]) -> Group:
    """Return texts one below the other."""
    return Group(*(Text(text) for text in texts))
