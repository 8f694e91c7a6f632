"""A search space as searchers see it: a unit cube, of which some sides are there at times only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.core.errors import UsageError, did_you_mean
from thalweg.core.space import Choice, Space

Position = dict[str, float]


@dataclass(frozen=True)
class When:
    """A parameter that exists only while another one, a choice, has one of some values.

    Attributes:
        on: the name of the choice, which stands before this parameter in the space.
        values: the values of it with which this parameter exists.
        space: where the parameter is looked for; a `When` again if it hangs on several choices.
    """

    on: str
    values: tuple[Any, ...]
    space: Space | When

    def describe(self) -> dict[str, Any]:
        """Return the condition and the space as JSON-ready data."""
        return {**self.space.describe(), "on": self.on, "when": list(self.values)}


class SearchSpace:
    """Named spaces, some of them conditional, over the unit cube.

    A *point* is an array with a number of [0, 1] for every parameter; a *position* holds those of
    the parameters that are active there, and of a choice the middle of its value's interval.

    Args:
        spaces: parameter -> `thalweg.core.space` or `When`; the order is the cube's.

    Raises:
        UsageError: nothing to search, a space of another kind, or a condition on what is no
            choice, has no such value, or stands later.
    """

    def __init__(self, spaces: Mapping[str, Space | When]) -> None:
        if not spaces:
            raise UsageError("there is nothing to search: the space has no parameter")
        self._conditions: dict[str, list[When]] = {}
        self.spaces: dict[str, Space] = {}
        for name, space in spaces.items():
            conditions = []
            while isinstance(space, When):
                self._check(name, space)
                conditions.append(space)
                space = space.space
            if not isinstance(space, Space):
                raise UsageError(
                    f'the space of "{name}" must be Linear, Log, OneMinusLog, Choice or When, '
                    f"found {type(space).__name__}"
                )
            self._conditions[name] = conditions
            self.spaces[name] = space
        self._described = {name: space.describe() for name, space in spaces.items()}

    def _check(self, name: str, condition: When) -> None:
        parent = self.spaces.get(condition.on)
        if not isinstance(parent, Choice):
            hint = did_you_mean(condition.on, self.spaces)
            raise UsageError(
                f'"{name}" depends on "{condition.on}", which is no choice that stands before '
                f"it.{hint}"
            )
        for value in condition.values:
            if value not in parent.values:
                raise UsageError(
                    f'"{name}" depends on {condition.on} = {value!r}, which is not among its '
                    f"values {list(parent.values)}"
                )

    @property
    def names(self) -> list[str]:
        """Return all parameters, in order."""
        return list(self.spaces)

    def __len__(self) -> int:
        return len(self.spaces)

    def is_active(self, name: str, values: Mapping[str, Any]) -> bool:
        """Return whether a parameter exists, given the values of those before it."""
        return all(
            condition.on in values and values[condition.on] in condition.values
            for condition in self._conditions[name]
        )

    def is_conditional(self, name: str) -> bool:
        """Return whether a parameter does not always exist."""
        return bool(self._conditions[name])

    def position(self, point: Any) -> Position:
        """Return the position of a point: active parameters only, inside the cube."""
        position: Position = {}
        values: dict[str, Any] = {}
        for (name, space), u in zip(self.spaces.items(), point, strict=True):
            if self.is_active(name, values):
                position[name] = settled(space, float(u))
                values[name] = space.at(position[name])
        return position

    def values(self, position: Mapping[str, float]) -> dict[str, Any]:
        """Return the values at a position."""
        return {name: self.spaces[name].at(u) for name, u in position.items()}

    def point(self, position: Mapping[str, float]) -> np.ndarray:
        """Return the point of a position (d,), 0.5 where a parameter is not active."""
        return np.array([position.get(name, 0.5) for name in self.spaces])

    def features(self, position: Mapping[str, float]) -> np.ndarray:
        """Return a position as a model sees it.

        A number for every ordinary parameter (0.5 where it is not active) and one for each value
        of a choice: 1 for the one that is chosen and 0 for others.
        """
        found: list[float] = []
        for name, space in self.spaces.items():
            u = position.get(name)
            if isinstance(space, Choice):
                chosen = None if u is None else index_of(space, u)
                found += [float(i == chosen) for i in range(len(space.values))]
            else:
                found.append(0.5 if u is None else u)
        return np.array(found)

    def grid(self, counts: Mapping[str, int]) -> Iterator[Position]:
        """Return all positions of a grid: every value of a choice, ``counts`` of the others."""
        yield from self._grid(counts, self.names, {}, {})

    def _grid(
        self,
        counts: Mapping[str, int],
        names: list[str],
        position: Position,
        values: dict[str, Any],
    ) -> Iterator[Position]:
        if not names:
            yield position
            return
        name, *rest = names
        if not self.is_active(name, values):
            yield from self._grid(counts, rest, position, values)
            return
        space = self.spaces[name]
        for u in _levels(space, counts.get(name, 1)):
            value = space.at(u)
            yield from self._grid(counts, rest, {**position, name: u}, {**values, name: value})

    def describe(self) -> dict[str, Any]:
        """Return the space as JSON-ready data."""
        return self._described


def index_of(space: Choice, u: float) -> int:
    """Return the place of the value that a choice has at ``u``."""
    return min(int(u * len(space.values)), len(space.values) - 1)


def settled(space: Space, u: float) -> float:
    """Return ``u`` inside [0, 1]; for a choice the middle of its value's interval."""
    u = min(max(u, 0.0), 1.0)
    return (index_of(space, u) + 0.5) / len(space.values) if isinstance(space, Choice) else u


def _levels(space: Space, count: int) -> list[float]:
    if isinstance(space, Choice):
        return [(i + 0.5) / len(space.values) for i in range(len(space.values))]
    return [i / (count - 1) for i in range(count)] if count > 1 else [0.5]
