"""What figures of learning curves have in common."""

import math
from collections.abc import Callable, Sequence

from thalweg.race.rows import CurvePoint
from thalweg.report.figure import Spec, axis, colour, linear_range, log_range, text

Value = Callable[[CurvePoint], float]


def shared_points(
    curves: Sequence[Sequence[CurvePoint]], value: Value
) -> list[list[CurvePoint]] | None:
    """Return the points of all curves at each step where all have a finite value, by step.

    Curves without any finite value do not count; None if none is left.
    """
    tables = [{p.step: p for p in curve if math.isfinite(value(p))} for curve in curves]
    tables = [table for table in tables if table]
    if not tables:
        return None
    steps = sorted(set.intersection(*(set(table) for table in tables)))
    return [[table[step] for table in tables] for step in steps]


def height(what: str, values: Sequence[float], target: float | None, logarithmic: bool) -> Spec:
    """Return the vertical axis of a figure of ``what``, with the target if it is near."""
    if target is not None and _near(target, values):
        values = [*values, target]
    if logarithmic:
        return axis(f"{text(what)} (log scale)", type="log", range=log_range(values))
    return axis(text(what), range=linear_range(values))


def _near(target: float, shown: Sequence[float]) -> bool:
    """Return whether showing the target leaves the curves at least half of the height."""
    low, high = min(shown), max(shown)
    return high - low > 0.5 * (max(high, target) - min(low, target))


def target_line(target: float) -> Spec:
    """Return a dotted line across the figure at the target."""
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": target,
        "y1": target,
        "line": {"color": colour("ink", 0.65), "width": 1.2, "dash": "dot"},
        "layer": "below",
    }
