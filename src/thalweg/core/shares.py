"""How much each of several things weighs in their mean."""

import math
from collections.abc import Sequence
from typing import Any

from thalweg.core.errors import UsageError


def check_weights(what: str, weights: Any, *, signed: bool = False) -> tuple[float, ...] | None:
    """Return one weight a model as floats, or None for equal ones.

    Raises:
        UsageError: not finite numbers, a negative one where only shares make sense, or all zero.
    """
    if weights is None:
        return None
    try:
        found = tuple(float(w) for w in weights)
    except (TypeError, ValueError):
        found = ()
    if (
        not found
        or not all(map(math.isfinite, found))
        or (not signed and (min(found) < 0 or sum(found) <= 0))
    ):
        kind = "finite numbers" if signed else "numbers of at least 0, not all 0"
        raise UsageError(f"{what} must be {kind}, one a model; found {weights!r}")
    return found


def shares(weights: Sequence[float] | None, count: int) -> list[float]:
    """Return the weights divided by their sum; equal ones for None."""
    weights = [1.0] * count if weights is None else weights
    return [w / math.fsum(weights) for w in weights]
