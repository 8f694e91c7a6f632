"""The one look of the figures, and how they become files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thalweg.core.errors import UsageError
from thalweg.core.files import make_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".pdf", ".png")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Wong, "Color blindness", Nature Methods 2011: told apart with any colour vision."""

_SETTINGS: Any = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "figure.dpi": 150,
    "font.size": 9,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "pdf.fonttype": 42,  # text stays text
    "savefig.dpi": 300,
    "svg.fonttype": "none",
    "svg.hashsalt": "thalweg",  # the same figure is the same file
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}


def check_file(path: str | os.PathLike[str]) -> Path:
    """Return the path of a figure.

    Raises:
        UsageError: its suffix is none of `SUFFIXES`, or matplotlib is not installed.
    """
    require_matplotlib()
    file = Path(path)
    if file.suffix.lower() not in SUFFIXES:
        raise UsageError(f"a figure is a file in {', '.join(SUFFIXES)}; found {file}")
    return file


def require_matplotlib() -> None:
    """Raise UsageError unless matplotlib is installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UsageError(
            'figures need matplotlib, which is not installed; pip install "thalweg[figures]"'
        ) from None


@contextmanager
def drawing(size: tuple[float, float], path: str | os.PathLike[str] | None) -> Iterator[Figure]:
    """Give an empty figure to draw on, in inches; write it afterwards if there is a path.

    No window is opened and no global state of matplotlib is changed.

    Raises:
        UsageError: before anything is drawn: as `check_file`.
    """
    file = None if path is None else check_file(path)
    require_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        if file is not None:
            make_folder(file.parent)
            # Without the date two runs give the same file.
            dated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
            figure.savefig(file, metadata=dated.get(file.suffix.lower()))


def note(figure: Figure, texts: list[str]) -> None:
    """Write below the axes what a reader of the figure must know."""
    if texts:
        figure.supxlabel("; ".join(texts), fontsize=7, color="#444444")
