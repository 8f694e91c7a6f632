"""Rulesets: what an entrant may spend, and what counts.

* ``budget``: some tuning trials of any number, or as many as fit into a budget of steps or of
  seconds; the best trial is run again under fresh seeds.
* ``external``: external tuning as in AlgoPerf (Dahl et al. 2023, arXiv 2306.07179). Some studies of
  5 quasi-random trials each; a study has its own trials, initial weights and batches. What a study
  needs to the target is the least that one of its trials needs, and what counts is the median over
  studies (`thalweg score` reads the race's folder). The best trial of each study is run once more
  under a fresh seed, so that its result does not profit from having been chosen; the verdict
  compares these, and so includes the luck of tuning.
* ``self``: self-tuning. No trials: an entrant runs with its recipe's values and its rule's
  defaults, three times as long, and has to tune itself inside of that.
* ``speedrun``: time to a target on a ladder of model sizes (`thalweg.race.speedrun`); each rung is
  tuned as in ``budget``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from thalweg.core.checks import check_choice, check_whole
from thalweg.core.errors import UsageError

LONGER = 3
"""How many times longer than the others a self-tuning run is."""

Unit = Literal["trials", "steps", "seconds"]
UNITS: dict[str, Unit] = {
    "trial": "trials",
    "trials": "trials",
    "step": "steps",
    "steps": "steps",
    "s": "seconds",
    "second": "seconds",
    "seconds": "seconds",
}


@dataclass(frozen=True)
class Ruleset:
    """A ruleset.

    Attributes:
        name: what it is called.
        trials: tuning trials by default, of each study.
        seeds: final runs, or studies, by default.
        factor: how many times longer runs are.
    """

    name: str
    trials: int
    seeds: int
    factor: int = 1


RULESETS = {
    one.name: one
    for one in (
        Ruleset("budget", trials=8, seeds=6),
        Ruleset("external", trials=5, seeds=5),
        Ruleset("self", trials=0, seeds=6, factor=LONGER),
        Ruleset("speedrun", trials=8, seeds=6),
    )
}


def ruleset(name: str) -> Ruleset:
    """Return a ruleset by its name.

    Raises:
        UsageError: there is none of that name.
    """
    check_choice("ruleset", name, RULESETS)
    return RULESETS[name]


def parse_budget(text: str) -> tuple[Unit, float]:
    """Return unit and size of a tuning budget, of ``20 trials``, ``3000steps`` or ``90s``.

    Raises:
        UsageError: it is none of those, or not positive.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", text)
    if found is None or found[2] not in UNITS or float(found[1]) <= 0:
        raise UsageError(
            f"a budget is a positive number of trials, steps or seconds for each entrant, such as "
            f'20trials, 3000steps or 90s; found "{text}"'
        )
    unit = UNITS[found[2]]
    size = float(found[1])
    if unit != "seconds":
        if size != int(size):
            raise UsageError(f'a budget of {unit} is a whole number, found "{text}"')
        check_whole(unit, int(size), least=1)
    return unit, size


def trials_within(unit: Unit, size: float, steps: int) -> int:
    """Return how many trials of some steps a budget allows; of seconds, the most it may ever.

    Raises:
        UsageError: not even one.
    """
    if unit == "seconds":
        return MOST_TRIALS
    trials = int(size) if unit == "trials" else math.floor(size / steps)
    if trials < 1:
        raise UsageError(
            f"a budget of {size:g} steps does not allow one trial of {steps} steps; "
            "give more, or fewer --steps"
        )
    return trials


MOST_TRIALS = 256
"""The most trials that a budget of seconds buys."""
