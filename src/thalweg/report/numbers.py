"""Numbers as people read them: with units, and with as many digits as they carry."""

import itertools
import math
from collections.abc import Callable, Iterable

NONE = "\N{EN DASH}"
THIN = "\N{NARROW NO-BREAK SPACE}"
TIMES = "\N{MULTIPLICATION SIGN}"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

Format = Callable[[float | None], str]


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with that many significant digits, never more than it needs.

    From 10,000 up thousands are set apart by thin spaces; below 0.001 and from ten million up it
    is written as a power of ten.
    """
    if value is None:
        return NONE
    if not math.isfinite(value):
        return _special(value)
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e7:
        return _scientific(value, digits - 1)
    rounded = float(f"{value:.{digits - 1}e}") if abs(value) < 1e4 else round(value)
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    text = f"{rounded:.{decimals}f}"
    return _signed(_grouped(text.rstrip("0").rstrip(".") if "." in text else text))


def integer(value: int | None) -> str:
    """Return a count with its thousands set apart."""
    return NONE if value is None else _signed(_grouped(str(value)))


def seconds(value: float | None) -> str:
    """Return a duration with its unit, from nanoseconds to hours."""
    if value is None or not math.isfinite(value):
        return number(value)
    if value >= 60:
        whole = round(value)
        if whole >= 3600:
            return f"{whole // 3600}{THIN}h {whole % 3600 // 60:02d}{THIN}min"
        return f"{whole // 60}{THIN}min {whole % 60:02d}{THIN}s"
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if value * factor >= 1 or value == 0:
            return f"{number(value * factor)}{THIN}{unit}"
    return f"{number(value * 1e9)}{THIN}ns"


def percent(share: float) -> str:
    """Return a share in whole percent; what is not quite nothing or everything is told as that."""
    if 0 < share < 0.005:
        return f"below 1{THIN}%"
    if 0.995 <= share < 1:
        return f"above 99{THIN}%"
    return f"{share * 100:.0f}{THIN}%"


def size(value: float | None) -> str:
    """Return a number of bytes in the largest decimal unit that fits (1 MB is 10^6 bytes)."""
    if value is None or not math.isfinite(value):
        return number(value)
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= factor:
            return f"{number(value / factor)}{THIN}{unit}"
    return f"{number(value)}{THIN}B"


def metric_format(values: Iterable[float | None], widths: Iterable[float | None] = ()) -> Format:
    """Return how to write the values of one metric, so that a column of them lines up.

    Decimals are such that the narrowest uncertainty shows two digits; without any, such that
    values that differ look different, at three digits or more.

    Args:
        values: the values that will be shown.
        widths: their uncertainties (half widths of intervals).
    """
    finite = sorted(v for v in values if v is not None and math.isfinite(v))
    largest = max((abs(v) for v in finite), default=1.0) or 1.0
    known = [w for w in widths if w is not None and math.isfinite(w) and w > 0]
    gaps = [b - a for a, b in itertools.pairwise(finite) if b > a]
    # An uncertainty that is all but zero would ask for digits that nobody reads.
    finest = max(min(known or gaps, default=largest * 5e-2), largest * 1e-5)
    digits = 1 - math.floor(math.log10(finest))
    leading = math.floor(math.log10(largest))
    if not 1e-3 <= largest < 1e6:
        mantissa = min(max(digits + leading, 1), 3)
        return lambda value: _exact(value) or _scientific(value or 0.0, mantissa)
    decimals = min(max(digits, 2 - leading, 0), 6)

    def fixed(value: float | None) -> str:
        text = _exact(value)
        if text is not None or value is None:
            return text or NONE
        if value != 0 and abs(value) < 0.5 * 10**-decimals:
            return _scientific(value, 1)
        return _signed(_grouped(f"{value:.{decimals}f}"))

    return fixed


def _exact(value: float | None) -> str | None:
    if value is None:
        return NONE
    if not math.isfinite(value):
        return _special(value)
    return "0" if value == 0 else None


def _special(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "∞" if value > 0 else "\N{MINUS SIGN}∞"


def _scientific(value: float, decimals: int) -> str:
    mantissa, exponent = f"{value:.{decimals}e}".split("e")
    power = str(int(exponent)).translate(_SUPERSCRIPTS)
    return _signed(f"{mantissa}{THIN}{TIMES}{THIN}10{power}")


def _grouped(text: str) -> str:
    whole, _, part = text.partition(".")
    if len(whole.lstrip("-")) > 4:
        whole = f"{int(whole):,}".replace(",", THIN)
    return f"{whole}.{part}" if part else whole


def _signed(text: str) -> str:
    return "\N{MINUS SIGN}" + text[1:] if text.startswith("-") else text
