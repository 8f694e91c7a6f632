"""A training algorithm as a value."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from thalweg.core.errors import UsageError, did_you_mean
from thalweg.core.registry import RECIPE_KINDS, Part, get
from thalweg.core.space import Space
from thalweg.engine.modifier import resolved
from thalweg.schedule import Warmup

if TYPE_CHECKING:
    from torch import nn

    from thalweg.recipe.build import Algorithm

Value = bool | int | float | str | None | tuple["Value", ...]

_GIVEN_BY_BUILD = ("model", "modifiers")


class _Text:
    """A value that is told from others by its text."""

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), str(self)))


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Use(_Text):
    """A part with the settings that were made; the others keep the part's defaults or are tuned.

    Args:
        slug: the part's name.
        **hyper: its settings: numbers, strings, True, False, None, or tuples of them.

    Attributes:
        arguments: the settings, in the order of the part's parameters.

    Raises:
        UsageError: an unknown part or setting (the message offers the nearest), or an impossible
            value.
    """

    slug: str
    arguments: tuple[tuple[str, Value], ...]

    def __init__(self, slug: str, /, **hyper: Any) -> None:
        part = get(slug, *RECIPE_KINDS)
        known = settable(part)
        for name in hyper:
            if name not in known:
                raise unknown_setting(slug, name, known)
        values = {name: _plain(f"{slug}: {name}", hyper[name]) for name in known if name in hyper}
        _check(part, values)
        object.__setattr__(self, "slug", slug)
        object.__setattr__(self, "arguments", tuple(values.items()))

    @property
    def part(self) -> Part:
        """Return the part."""
        return get(self.slug)

    @property
    def hyper(self) -> dict[str, Any]:
        """Return the settings by name."""
        return dict(self.arguments)

    def __str__(self) -> str:
        if not self.arguments:
            return self.slug
        listed = ", ".join(f"{name}={_spelt(value)}" for name, value in self.arguments)
        return f"{self.slug}({listed})"

    def __repr__(self) -> str:
        listed = "".join(f", {name}={value!r}" for name, value in self.arguments)
        return f"Use({self.slug!r}{listed})"


@dataclass(frozen=True, eq=False, repr=False)
class Recipe(_Text):
    """A training algorithm: one rule, and what goes around and along it.

    Its text is canonical: two recipes are equal when their texts are, and `parse` of the text
    gives an equal recipe. Parts stand in the order rule, modifiers (by name, since they act in an
    order of their own), wrappers, warm-up, schedule, average; every setting that was made is kept,
    by name.

    Args:
        rule: the optimiser.
        around: wrappers of its step, innermost first.
        warmup: the warm-up of the learning rate.
        schedule: what the learning rate does after it; constant if None.
        average: the running average that is evaluated instead of the last weights.
        modifiers: what changes the rule's gradient, direction or decay.

    Raises:
        UsageError: a part of the wrong kind, a wrapper or a modifier twice, or modifiers that do
            not go together or around the rule.
    """

    rule: Use
    around: tuple[Use, ...] = ()
    warmup: Use | None = None
    schedule: Use | None = None
    average: Use | None = None
    modifiers: tuple[Use, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "around", tuple(self.around))
        modifiers = sorted(self.modifiers, key=lambda use: getattr(use, "slug", ""))
        object.__setattr__(self, "modifiers", tuple(modifiers))
        for place, wanted, uses in (
            ("rule", "rule", (self.rule,)),
            ("around", "around", self.around),
            ("warmup", "warmup", (self.warmup,)),
            ("schedule", "schedule", (self.schedule,)),
            ("average", "average", (self.average,)),
            ("modifiers", "modifier", self.modifiers),
        ):
            for use in uses:
                if use is None and wanted not in ("rule", "modifier", "around"):
                    continue
                if not isinstance(use, Use):
                    raise UsageError(f'{place} takes parts, such as Use("..."), found {use!r}')
                if place_of(use.part) != wanted:
                    raise UsageError(f'"{use.slug}" is no {wanted} but a {place_of(use.part)}')
        for name, uses in (("wrapper", self.around), ("modifier", self.modifiers)):
            slugs = [use.slug for use in uses]
            for slug in slugs:
                if slugs.count(slug) > 1:
                    raise UsageError(f'the {name} "{slug}" is there twice; use it once')
        check_modifiers(self.rule, self.modifiers)

    @classmethod
    def parse(cls, text: "str | Recipe") -> "Recipe":
        """Return the recipe that a line of text spells; see `thalweg.recipe.parse`."""
        from thalweg.recipe.parser import parse

        return parse(text)

    @property
    def uses(self) -> tuple[Use, ...]:
        """Return all parts, in canonical order."""
        along = (self.warmup, self.schedule, self.average)
        return (
            self.rule,
            *self.modifiers,
            *self.around,
            *(use for use in along if use is not None),
        )

    def hyper(self) -> dict[str, Any]:
        """Return the settings that were made, by ``slug.parameter``."""
        return {f"{use.slug}.{name}": value for use in self.uses for name, value in use.arguments}

    def space(self) -> dict[str, Space]:
        """Return what is left to tune: ``slug.parameter`` -> search space.

        These are the default spaces of all parts without the parameters that are set; the rule's
        learning rate comes first.
        """
        space: dict[str, Space] = {}
        for use in self.uses:
            names = sorted(use.part.space, key=lambda name: name != "lr")
            for name in names:
                if name not in use.hyper:
                    space[f"{use.slug}.{name}"] = use.part.space[name]
        return space

    def filled(self, values: Mapping[str, Any]) -> Self:
        """Return the recipe with more settings made.

        Args:
            values: ``slug.parameter`` -> value, as `space` names them.

        Raises:
            UsageError: a part that the recipe does not have, a parameter that the part does not
                have or that is set already, or an impossible value.
        """
        added: dict[str, dict[str, Any]] = {use.slug: {} for use in self.uses}
        for key, value in values.items():
            slug, _, name = key.partition(".")
            if slug not in added:
                hint = did_you_mean(slug, added)
                raise UsageError(f'"{key}": there is no part "{slug}" in "{self}".{hint}')
            if key in self.hyper():
                raise UsageError(f'"{key}" is set already in "{self}"')
            added[slug][name] = value

        def fill(use: Use | None) -> Any:
            return use and Use(use.slug, **use.hyper, **added[use.slug])

        return type(self)(
            rule=fill(self.rule),
            modifiers=tuple(map(fill, self.modifiers)),
            around=tuple(map(fill, self.around)),
            warmup=fill(self.warmup),
            schedule=fill(self.schedule),
            average=fill(self.average),
        )

    def build(self, model: "nn.Module", steps: int) -> "Algorithm":
        """Return the optimiser, the learning-rate driver and the average for a model.

        Args:
            model: the model to train; rules and wrappers get it whole, with its names.
            steps: updates of the whole run.

        Raises:
            UsageError: no steps, or a rule on parameters that it cannot take.
        """
        from thalweg.recipe.build import build

        return build(self, model, steps)

    def __str__(self) -> str:
        return " + ".join(map(str, self.uses))

    def __repr__(self) -> str:
        return f"Recipe.parse({str(self)!r})"


def settable(part: Part) -> dict[str, Any]:
    """Return the parameters of a part that a recipe may set, with their defaults."""
    return {name: x for name, x in part.parameters.items() if name not in _GIVEN_BY_BUILD}


def place_of(part: Part) -> str:
    """Return where in a recipe a part belongs: its kind, or ``"warmup"``."""
    factory = part.factory
    warms_up = isinstance(factory, type) and issubclass(factory, Warmup)
    return "warmup" if warms_up else part.kind


def check_modifiers(rule: Use, modifiers: tuple[Use, ...]) -> None:
    """Raise a `UsageError` unless these modifiers go together, and around the rule."""
    made = resolved([use.part.factory(**use.hyper) for use in modifiers])
    if made and getattr(rule.part.factory, "penalised", False):
        raise UsageError(
            f'"{rule.slug}" steps by the loss and not by a gradient, and takes no modifiers; '
            f"remove {', '.join(use.slug for use in modifiers)}"
        )


def unknown_setting(slug: str, name: str, known: Mapping[str, Any]) -> UsageError:
    """Return the error for a setting that a part does not have."""
    listed = f"It takes {', '.join(known)}." if known else "It takes no settings."
    return UsageError(f'{slug} has no "{name}".{did_you_mean(name, known)} {listed}')


def _check(part: Part, values: Mapping[str, Any]) -> None:
    try:
        if part.kind in ("schedule", "average", "modifier"):
            part.factory(**values)
        else:
            check = getattr(part.factory, "check_hyper", None)
            if check is not None:
                check(**values)
    except UsageError:
        raise
    except (TypeError, ValueError) as error:
        raise UsageError(f"{part.slug}: {error}") from error


def _plain(what: str, value: Any) -> Value:
    """Return a value as one of Python's own types."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and math.isnan(value):
        raise UsageError(f"{what} is NaN; give a number")
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if value is None:
        return None
    if isinstance(value, tuple | list):
        return tuple(_plain(what, one) for one in value)
    raise UsageError(
        f"{what} must be a number, a string, True, False, None or a tuple of them, found "
        f"{type(value).__name__}"
    )


def _spelt(value: Value) -> str:
    """Return the text of a value, which reads back as the same value."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        inside = ", ".join(map(_spelt, value))
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    return repr(value)  # of a float the shortest digits that read back; inf is inf
