"""Plotly figures as plain data, with colours by name that the page fills in for its theme."""

import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from thalweg.report.numbers import THIN, TIMES, number

Spec = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """One interactive plot of the page.

    Attributes:
        id: the id of its element, unique on the page.
        title: what it shows to people: the finding, a sentence.
        data: plotly traces; colours are what `colour` returns.
        layout: plotly layout beyond what all plots of the page share.
        height: in CSS pixels.
        aspect: height of the plotting area over its width, which then decides the height.
        phone: changes to ``layout`` on a narrow screen; ``height`` may be among them, and ``cells``
            (``small`` or ``none``): what becomes of text in the cells of a heat map.
        variants: by name, what a switch on the page changes: ``{"data": [changes by trace],
            "layout": changes, "title": ...}``; the first one is what ``data`` holds already.
        note: a sentence in small type under the plot.
        subtitle: what the axes do not say, in small type under the title.
    """

    id: str
    title: str
    data: Sequence[Spec]
    layout: Mapping[str, Any]
    height: int = 340
    aspect: float | None = None
    phone: Mapping[str, Any] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    note: str = ""
    subtitle: str = ""

    def spec(self) -> Spec:
        """Return what the page's script needs to draw it."""
        return {
            "data": list(self.data),
            "layout": dict(self.layout),
            "phone": dict(self.phone),
            "variants": dict(self.variants),
            "aspect": self.aspect,
        }


def colour(name: str, alpha: float = 1.0) -> Spec:
    """Return a reference to a colour of `thalweg.report.look.TOKENS`."""
    return {"$": name} if alpha == 1 else {"$": name, "alpha": alpha}


def text(value: str) -> str:
    """Return user text for a plot, where plotly would read tags and entities."""
    return html.escape(value, quote=False)


def axis(title: str, **settings: Any) -> Spec:
    """Return an axis with a title, which names the unit; a log one comes with a range."""
    ticks = log_ticks(settings["range"]) if settings.get("type") == "log" else {}
    return {"title": {"text": title}, **settings, **ticks}


def log_range(values: Sequence[float], pad: float = 0.06) -> list[float]:
    """Return the range of a log axis over positive values, as powers of ten with some room."""
    powers = [math.log10(value) for value in values]
    room = max((max(powers) - min(powers)) * pad, 0.05)
    return [min(powers) - room, max(powers) + room]


def linear_range(values: Sequence[float], pad: float = 0.06) -> list[float]:
    """Return the range of a linear axis over values, with some room."""
    room = (max(values) - min(values)) * pad or abs(values[0]) * 0.05 or 1.0
    return [min(values) - room, max(values) + room]


def log_ticks(span: Sequence[float]) -> Spec:
    """Return the ticks of a log axis over a range of powers: written out, and few."""
    low, high = math.ceil(span[0] - 1e-9), math.floor(span[1] + 1e-9)
    width = span[1] - span[0]
    step = max(1, math.ceil(width / 6))
    mantissas = (1, 2, 5) if width < 1.6 else (1, 3) if width < 2.6 else (1,)
    powers = range(low - 1, high + 1) if len(mantissas) > 1 else range(low, high + 1, step)
    values = [
        m * 10.0**power
        for power in powers
        for m in mantissas
        if span[0] - 1e-9 <= power + math.log10(m) <= span[1] + 1e-9
    ]
    # A plain power reads better without the "1 x" before it.
    texts = [number(value, 1).removeprefix(f"1{THIN}{TIMES}{THIN}") for value in values]
    return {"tickmode": "array", "tickvals": values, "ticktext": texts}


def wants_log(values: Sequence[float], ratio: float = 20.0) -> bool:
    """Return whether values are all positive and span so much that a linear axis hides most."""
    return bool(values) and min(values) > 0 and max(values) / min(values) > ratio


def to_json(value: Any) -> Markup:
    """Return JSON that is safe inside a script element; NaN and infinities become null."""
    encoded = json.dumps(_finite(value), allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        encoded = encoded.replace(character, f"\\u{ord(character):04x}")
    return Markup(encoded)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
