"""Checks of single values at the boundary, with one way of saying what is allowed."""

from collections.abc import Iterable
from typing import Any

from thalweg.core.errors import UsageError, did_you_mean


def check_number(what: str, value: Any, interval: str) -> None:
    """Check that a value is a number of an interval such as ``"[0, 1)"`` or ``"(0, inf]"``.

    Args:
        what: whose value it is, for the message: ``"ema: decay"``.
        value: what was found.
        interval: both ends, with square brackets where an end is allowed itself.

    Raises:
        UsageError: it is not a number, NaN, or outside.
    """
    if _is_number(value):
        low, high = map(float, interval[1:-1].split(","))
        above = value >= low if interval[0] == "[" else value > low
        below = value <= high if interval[-1] == "]" else value < high
        if above and below:
            return
    raise UsageError(f"{what} must be a number in {interval}, found {value!r}")


def check_whole(what: str, value: Any, least: int) -> None:
    """Check that a value is a whole number of at least ``least``.

    Raises:
        UsageError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{what} must be a whole number of at least {least}, found {value!r}")


def check_flag(what: str, value: Any) -> None:
    """Check that a value is True or False.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(value, bool):
        raise UsageError(f"{what} must be True or False, found {value!r}")


def check_choice(what: str, value: Any, choices: Iterable[str]) -> None:
    """Check that a value is one of some strings.

    Raises:
        UsageError: it is not; the message offers the nearest.
    """
    known = list(choices)
    if value not in known:
        hint = did_you_mean(value, known) if isinstance(value, str) else ""
        listed = ", ".join(f'"{one}"' for one in known)
        raise UsageError(f"{what} must be one of {listed}, found {value!r}.{hint}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
