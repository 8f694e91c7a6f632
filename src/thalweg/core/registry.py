"""The registry of parts: rules, wrappers, schedules, averages, merges, searchers by their slug."""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from thalweg.core.errors import UnknownNameError, UsageError, did_you_mean
from thalweg.core.space import Space

Kind = Literal["rule", "modifier", "around", "schedule", "average", "merge", "searcher", "logger"]
RECIPE_KINDS: tuple[Kind, ...] = ("rule", "modifier", "around", "schedule", "average")
KINDS: tuple[Kind, ...] = (*RECIPE_KINDS, "merge", "searcher", "logger")


@dataclass(frozen=True)
class Part:
    """One named piece of a training algorithm, or of what goes around its runs.

    Attributes:
        slug: the name in recipes and on the command line, lower case with dashes.
        kind: what it is; a recipe uses one rule, at most one of some kinds, any number of others.
        name: the name for people, as its paper spells it.
        reference: paper with year and arXiv id where there is one.
        factory: the class (or function) that builds it; its keyword parameters are the part's.
        space: the default search space of the parameters that are worth tuning.
        also: other kinds that lists show it under; a wrapper that is a training rule of its own
            is found among the rules, too.
    """

    slug: str
    kind: Kind
    name: str
    reference: str
    factory: Callable[..., Any]
    space: Mapping[str, Space] = field(default_factory=dict)
    also: tuple[Kind, ...] = ()

    @property
    def parameters(self) -> dict[str, Any]:
        """Return the parameters that a recipe may set, with their defaults.

        These are the factory's parameters after the first for a rule and a wrapper (which take
        the model's parameters or another optimiser first), and all of them otherwise.
        """
        parameters = list(inspect.signature(self.factory).parameters.values())
        if self.kind in ("rule", "around"):
            parameters = parameters[1:]
        return {
            p.name: p.default
            for p in parameters
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        }

    @property
    def summary(self) -> str:
        """Return the first line of the factory's docstring."""
        return (inspect.getdoc(self.factory) or "").partition("\n")[0]


_parts: dict[str, Part] = {}


def register(part: Part) -> Part:
    """Add a part.

    Raises:
        UsageError: the slug is malformed or taken, or the space names an unknown parameter.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", part.slug):
        raise UsageError(f'a slug is lower-case words joined by dashes, found "{part.slug}"')
    taken = _parts.get(part.slug)
    if taken is not None and not _same_source(taken.factory, part.factory):
        raise UsageError(f'the slug "{part.slug}" is taken by {taken.factory!r}; choose another')
    for key in part.space:
        if key not in part.parameters:
            hint = did_you_mean(key, part.parameters)
            raise UsageError(f'{part.slug}: the search space names an unknown "{key}".{hint}')
    _parts[part.slug] = part
    return part


def get(slug: str, *kinds: Kind) -> Part:
    """Return the part with that slug, of one of the kinds if any are given.

    Raises:
        UnknownNameError: no such part; the message names the nearest ones.
    """
    part = _parts.get(slug)
    if part is None or (kinds and part.kind not in kinds):
        what = "part" if kinds in ((), RECIPE_KINDS) else " or ".join(kinds)
        raise UnknownNameError(what, slug, slugs(*kinds))
    return part


def parts(*kinds: Kind) -> list[Part]:
    """Return all parts (of those kinds), by kind and slug."""
    chosen = [part for part in _parts.values() if not kinds or part.kind in kinds]
    return sorted(chosen, key=lambda part: (KINDS.index(part.kind), part.slug))


def slugs(*kinds: Kind) -> list[str]:
    """Return the slugs of `parts`."""
    return [part.slug for part in parts(*kinds)]


def _same_source(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    # A module run twice (a notebook cell, importlib.reload) may register its own part again.
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)
