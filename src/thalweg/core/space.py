"""Search spaces: where a hyper-parameter is looked for.

A space maps a number ``u`` of [0, 1) to a value, so that any quasi-random sequence can drive it.
"""

import math
from dataclasses import dataclass
from typing import Any

from thalweg.core.errors import UsageError


@dataclass(frozen=True)
class Linear:
    """Uniform on [low, high]: ``low + u (high - low)``."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _ordered(self.low, self.high)

    def at(self, u: float) -> float:
        """Return the value at ``u``."""
        return self.low + u * (self.high - self.low)

    def describe(self) -> dict[str, Any]:
        """Return the space as JSON-ready data."""
        return {"type": "linear", "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Log:
    """Log-uniform on [low, high]: ``low (high / low) ** u``."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _ordered(self.low, self.high)
        if self.low <= 0:
            raise UsageError(f"a log space needs positive ends, found low = {self.low}")

    def at(self, u: float) -> float:
        """Return the value at ``u``."""
        return math.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))

    def widened(self, share: float) -> "Log":
        """Return the space with a share of its width, in logarithms, more at both ends."""
        return Log(self.at(-share), self.at(1 + share))

    def describe(self) -> dict[str, Any]:
        """Return the space as JSON-ready data."""
        return {"type": "log", "low": self.low, "high": self.high}


@dataclass(frozen=True)
class OneMinusLog:
    """Log-uniform in ``1 - x`` on [low, high]: for betas, whose distance to 1 is what matters."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _ordered(self.low, self.high)
        if self.high >= 1:
            raise UsageError(f"ends must lie below 1, found high = {self.high}")

    def at(self, u: float) -> float:
        """Return the value at ``u``."""
        return 1 - Log(1 - self.high, 1 - self.low).at(1 - u)

    def describe(self) -> dict[str, Any]:
        """Return the space as JSON-ready data."""
        return {"type": "one-minus-log", "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Choice:
    """One of several values, equally likely."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise UsageError("a choice needs at least one value")

    def at(self, u: float) -> Any:
        """Return the value at ``u``."""
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]

    def describe(self) -> dict[str, Any]:
        """Return the space as JSON-ready data."""
        return {"type": "choice", "values": list(self.values)}


Space = Linear | Log | OneMinusLog | Choice


def _ordered(low: float, high: float) -> None:
    if not low < high:
        raise UsageError(f"a space needs low < high, found low = {low} and high = {high}")
