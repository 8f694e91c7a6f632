"""Who takes part: a name and a recipe."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from thalweg.core.errors import UsageError
from thalweg.recipe import Recipe

BASELINE = "adamw + warmup(0.05) + linear"
"""The recipe whose tuned best trial sets the target where nobody else does."""

DEFAULT_ENTRANTS = (
    "adamw = adamw + warmup(0.05) + linear",
    "sgd = sgd(momentum=0.9, nesterov=True) + warmup(0.05) + cosine",
    "lion = lion + warmup(0.05) + linear",
    "muon = muon + warmup(0.05) + linear",
    "schedule-free = schedule-free-adamw + warmup(0.05)",
    "adamw with sam = adamw + warmup(0.05) + linear + sam",
)
"""The entrants of a race for which none are named: six corners of the field."""


@dataclass(frozen=True)
class Entrant:
    """One who takes part.

    Attributes:
        name: what results call it; unique in a race.
        recipe: the recipe's text; what it leaves open is tuned.
    """

    name: str
    recipe: str


def parse_entrants(texts: Iterable[str]) -> tuple[Entrant, ...]:
    """Return the entrants that texts such as ``adamw`` or ``mine=adamw(lr=1e-3)`` describe.

    An entrant without a name is called by its text; a repetition is numbered: ``adamw``,
    ``adamw (2)``.

    Raises:
        UsageError: no entrant, an empty or repeated name, or a recipe that does not parse.
    """
    named = [_split(text) for text in texts]
    if not named:
        raise UsageError("a race needs at least one entrant; name a recipe such as adamw")
    taken: set[str] = set()
    for name, _ in named:
        if name is not None:
            if name in taken:
                raise UsageError(f'two entrants are called "{name}"; give each its own name')
            taken.add(name)
    entrants = []
    for name, text in named:
        recipe = str(Recipe.parse(text))
        if name is None:
            name = _free(text, taken)
            taken.add(name)
        entrants.append(Entrant(name, recipe))
    return tuple(entrants)


def _split(text: str) -> tuple[str | None, str]:
    # An = inside parentheses belongs to the recipe: adamw(lr=1e-3).
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "=" and depth == 0:
            name = text[:place].strip()
            if not name or not name.isprintable():
                raise UsageError(
                    f'an entrant needs a printable name before the "=", found "{text}"'
                )
            return name, text[place + 1 :]
    return None, " ".join(text.split())


def _free(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    number = 2
    while f"{name} ({number})" in taken:
        number += 1
    return f"{name} ({number})"
