"""Which quantities are of one kind, and so are drawn together and on one scale."""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from thalweg.landscape.figures.heights import Heights, Scale

T = TypeVar("T")

LOSS = "loss"


def kind_of(name: str) -> str:
    """Return what a quantity is of: "train accuracy" and "test accuracy" are both "accuracy"."""
    return name.removeprefix("train ").removeprefix("test ")


def families(losses: T, also: Mapping[str, T]) -> dict[str, dict[str, T]]:
    """Return quantities by kind and name.

    The loss comes first, with every quantity of that kind; it is called "train loss" beside
    others.
    """
    found: dict[str, dict[str, T]] = {LOSS: {}}
    for name, values in also.items():
        found.setdefault(kind_of(name), {})[name] = values
    first = "train loss" if found[LOSS] else LOSS
    found[LOSS] = {first: losses, **found[LOSS]}
    return found


def on_scales(
    values: Mapping[str, np.ndarray], scale: Scale, clip: float | None
) -> dict[str, Heights]:
    """Return what is drawn of each quantity: those of a kind share a scale.

    Args:
        values: by the names of quantities, of any shapes.
        scale: of losses; other kinds are drawn on a linear one.
        clip: likewise; other kinds are not clipped.
    """
    found: dict[str, Heights] = {}
    for kind in dict.fromkeys(kind_of(name) for name in values):
        some = {name: each for name, each in values.items() if kind_of(name) == kind}
        whole = np.concatenate([each.reshape(-1) for each in some.values()])
        heights = Heights(whole, scale, clip) if kind == LOSS else Heights(whole, "linear")
        parts = heights.split([each.shape for each in some.values()])
        found |= zip(some, parts, strict=True)
    return {name: found[name] for name in values}
