"""Adding seeds only while they are needed, without more false findings.

Looking at a growing set of seeds again and again, and stopping when a test says "different", finds
differences between equals far more often than the test's level. Here the *looks* are planned
before the race, each has a share of the level, and a pair's p-value is

``P = min over the looks so far of p_k / w_k``, with ``sum of w_k = 1``.

By the union bound ``P(P <= a) <= sum P(p_k <= w_k a) <= a`` for any dependence between the looks
and at any look at which one stops, for whatever reason: ``P`` is an always-valid p-value, and all
that is done with p-values of a fixed number of seeds (`thalweg.race.decisions`) can be done with
it. It grows only if later seeds point the other way, which forgets what was found before. The loss
against boundaries that use the joint normal distribution of the looks is small for few looks, and
nothing has to be normal over looks.

The last look has half of the level: differences that can only just be found need all seeds, and
large ones are found early at any level.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from thalweg.core.errors import UsageError
from thalweg.race.score import MINIMUM_SEEDS, RESAMPLES, Comparison, Scores, compare, t_test

AUTOMATIC = (3, 10)
"""What ``--seeds auto`` stands for."""

GROWTH = 1.4
LAST = 0.5


def parse_seeds(text: int | str) -> tuple[int, int]:
    """Return the least and the greatest number of seeds: ``6``, ``3..10`` or ``auto``.

    Raises:
        UsageError: it is none of those, or a range that does not begin with 3 or more or is empty.
    """
    if text == "auto":
        return AUTOMATIC
    ends = str(text).split("..")
    if len(ends) > 2 or not all(end.isascii() and end.isdigit() and int(end) > 0 for end in ends):
        raise UsageError(
            f'seeds must be a positive number, a range such as 3..10, or auto; found "{text}"'
        )
    least, most = int(ends[0]), int(ends[-1])
    if len(ends) == 2 and not MINIMUM_SEEDS <= least < most:
        raise UsageError(
            f"a range of seeds begins with at least {MINIMUM_SEEDS}, because fewer separate "
            f'nothing, and ends with more; found "{text}"'
        )
    return least, most


def looks(least: int, most: int) -> list[int]:
    """Return the numbers of seeds after which the runs are looked at, growing by about 1.4."""
    found = [least]
    while found[-1] < most:
        found.append(min(most, math.ceil(GROWTH * found[-1])))
    return found


def weights(count: int) -> list[float]:
    """Return the share of the level of each of some looks: half for the last one."""
    if count == 1:
        return [1.0]
    return [(1 - LAST) / (count - 1)] * (count - 1) + [LAST]


def compare_at(
    planned: Sequence[int],
    x: Scores,
    y: Scores,
    rng: np.random.Generator,
    resolution: float = 0.0,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare two entrants over the seeds that both have, with the p-value ``P`` of the module.

    A look that found the opposite of what all seeds say now does not count.

    Args:
        planned: all looks of the race; one look makes this `compare`.
        x: scores of the first, by seed.
        y: scores of the second, the same seeds in the same order, perhaps more or fewer.
        rng: draws the bootstrap's resamples.
        resolution: as in `compare`.
        resamples: as in `compare`.
    """
    n = min(len(x), len(y))
    x, y = x[:n], y[:n]
    found = compare(x, y, rng, resolution, resamples)
    p_value = 1.0
    for look, weight in zip(planned, weights(len(planned)), strict=True):
        if look <= n:
            p, direction, _ = t_test(x[:look], y[:look], resolution)
            if direction == found.direction:
                p_value = min(p_value, p / weight)
    return dataclasses.replace(found, p_value=p_value)
