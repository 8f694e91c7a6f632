"""What the paper's loops share: the shape of a loop, and nothing of any rule."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

Arrays = list[np.ndarray]
# gradient(t, points): the gradients at the points, where t = 1, 2, ... counts the calls.
Gradient = Callable[[int, Arrays], Arrays]
Reference = Callable[..., Iterator["Step"]]


@dataclass(frozen=True)
class Step:
    """Where a loop stands after a step: the points, and what else its paper names."""

    points: Arrays
    extra: dict[str, Any] = field(default_factory=dict)


def copies(arrays: Arrays) -> Arrays:
    """Return float64 copies."""
    return [np.array(a, dtype=np.float64) for a in arrays]


def zeros(arrays: Arrays) -> Arrays:
    """Return float64 zeros of the same shapes."""
    return [np.zeros(np.shape(a)) for a in arrays]


def run(
    reference: Reference, start: Arrays, gradient: Gradient, steps: int, **hyper: Any
) -> list[Step]:
    """Return the first steps of a loop; the one at index 0 is that after the first gradient."""
    return list(islice(reference(start, gradient, **hyper), steps))
