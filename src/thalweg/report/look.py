"""The one look of the page: colours for both themes, and how each entrant is drawn."""

from collections.abc import Iterable
from typing import Any, Protocol

from markupsafe import Markup


class Drawn(Protocol):
    """Somebody who is drawn in plots: by the index, under a label."""

    @property
    def index(self) -> int:
        """Return the place that decides colour, line and marker."""
        ...

    @property
    def name(self) -> str:
        """Return the full name."""
        ...

    @property
    def label(self) -> str:
        """Return the short one."""
        ...


ENTRANT_COLOURS: tuple[tuple[str, str], ...] = (
    ("#445aea", "#78a8fe"),
    ("#a37c07", "#e2b639"),
    ("#de5297", "#f071b7"),
    ("#005d56", "#01996a"),
    ("#0799d9", "#8ddafe"),
    ("#a70600", "#eb4e10"),
    ("#592586", "#9368e3"),
    ("#1d2d3f", "#f7fafe"),
)
"""Light and dark version of each hue.

Found by maximising the least OKLab distance between any two of them as seen with normal vision
and with each of the three dichromacies, with a contrast of at least 3 to 1 on the page.
"""

TOKENS: dict[str, tuple[str, str]] = {
    "paper": ("#fcfcfa", "#11161b"),
    "surface": ("#ffffff", "#171d23"),
    "sunken": ("#f3f4f1", "#1d242b"),
    "ink": ("#16202b", "#e9edf0"),
    "muted": ("#566270", "#9aa7b3"),
    "line": ("#e1e4e0", "#2b343d"),
    "strong-line": ("#8a949d", "#67737e"),
    "accent": ("#0d5c6e", "#7fcbdb"),
    "warning": ("#8a4b00", "#f0b35a"),
    "warning-surface": ("#fdf3e3", "#2c2417"),
    # The deeper the loss, the further from the paper.
    "depth-0": ("#0b3c49", "#d5f3f8"),
    "depth-1": ("#2a6c7d", "#86c3d0"),
    "depth-2": ("#74a5af", "#3f7886"),
    "depth-3": ("#c2d7d8", "#23424c"),
    "depth-4": ("#f5f7f4", "#161e24"),
    # From "loses" over "cannot tell" to "wins".
    "against-2": ("#b8631f", "#e39a56"),
    "against-1": ("#e9c8a4", "#6f4d2c"),
    "even": ("#f6f6f3", "#1b2229"),
    "for-1": ("#a3c8cd", "#2c5963"),
    "for-2": ("#1f6c7c", "#79c4d4"),
} | {f"entrant-{i}": pair for i, pair in enumerate(ENTRANT_COLOURS)}
"""Every colour of the page by name, for the light and the dark theme."""

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
"""Line patterns in plotly's names; with the colours they tell 24 entrants apart."""

_STROKES = ("", "6 3", "2 3", "6 2 2 2", "10 3", "10 2 2 2")

SYMBOLS = (
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "triangle-down",
    "pentagon",
    "star",
    "hexagon",
)
"""Markers in plotly's names."""

_SHAPES = (
    '<circle cx="14" cy="7" r="4.2"/>',
    '<rect x="10" y="3" width="8" height="8"/>',
    '<path d="M14 1.6 19.4 7 14 12.4 8.6 7z"/>',
    '<path d="M14 2 19 11.2 9 11.2z"/>',
    '<path d="M14 12 9 2.8 19 2.8z"/>',
    '<path d="M14 2.2 18.8 5.7 17 11.4 11 11.4 9.2 5.7z"/>',
    '<path d="M14 1.2 15.6 5.2 19.8 5.4 16.5 8.1 17.6 12.2 14 9.9 10.4 12.2 11.5 8.1 8.2 5.4'
    ' 12.4 5.2z"/>',
    '<path d="M14 2 18.3 4.5 18.3 9.5 14 12 9.7 9.5 9.7 4.5z"/>',
)


def colour_name(index: int) -> str:
    """Return the name of an entrant's colour among `TOKENS`."""
    return f"entrant-{index % len(ENTRANT_COLOURS)}"


def dash(index: int) -> str:
    """Return an entrant's line pattern."""
    return DASHES[index % len(DASHES)]


def symbol(index: int) -> str:
    """Return an entrant's marker; after one round of colours the shapes move on by one."""
    return SYMBOLS[_shape(index)]


def swatch(index: int) -> Markup:
    """Return a small drawing of an entrant's line and marker, in place of a legend."""
    stroke = _STROKES[index % len(_STROKES)]
    pattern = Markup(' stroke-dasharray="{}"').format(stroke) if stroke else ""
    return Markup(
        '<svg class="swatch" viewBox="0 0 28 14" aria-hidden="true" style="color:var(--{})">'
        '<line x1="0" y1="7" x2="28" y2="7" stroke="currentColor" stroke-width="2.4"{}/>'
        '<g fill="currentColor" stroke="var(--surface)" stroke-width="1">{}</g></svg>'
    ).format(colour_name(index), pattern, Markup(_SHAPES[_shape(index)]))


def legend(drawn: Iterable[Drawn]) -> list[dict[str, Any]]:
    """Return what the chips that show and hide entrants need."""
    return [
        {"index": one.index, "label": one.label, "name": one.name, "swatch": swatch(one.index)}
        for one in drawn
    ]


def theme_css() -> Markup:
    """Return the colours as CSS variables: by the system's theme, by the page's switch, in print.

    The values are constants of this module, so they are safe to insert as they are.
    """
    light, dark = (
        "".join(f"--{name}:{pair[side]};" for name, pair in TOKENS.items()) for side in (0, 1)
    )
    return Markup(
        f":root{{color-scheme:light;{light}}}"
        "@media (prefers-color-scheme:dark){"
        f":root:not([data-theme=light]){{color-scheme:dark;{dark}}}}}"
        f":root[data-theme=dark]{{color-scheme:dark;{dark}}}"
        f"@media print{{:root:root:root{{color-scheme:light;{light}}}}}"
    )


def _shape(index: int) -> int:
    return (index + index // len(SYMBOLS)) % len(SYMBOLS)
