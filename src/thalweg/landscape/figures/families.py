"""Which quantities are of one kind, and so are drawn together."""

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

LOSS = "loss"


def families(losses: T, also: Mapping[str, T]) -> dict[str, dict[str, T]]:
    """Return quantities by kind and name: "train accuracy" and "test accuracy" are of one kind.

    The loss comes first, with every quantity of that kind; it is called "train loss" beside
    others.
    """
    found: dict[str, dict[str, T]] = {LOSS: {}}
    for name, values in also.items():
        kind = name.removeprefix("train ").removeprefix("test ")
        found.setdefault(kind, {})[name] = values
    first = "train loss" if found[LOSS] else LOSS
    found[LOSS] = {first: losses, **found[LOSS]}
    return found
