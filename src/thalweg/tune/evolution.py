"""Regularised evolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thalweg.core.checks import check_number, check_whole
from thalweg.core.errors import UsageError
from thalweg.core.space import Choice
from thalweg.tune.plain import quasi_random
from thalweg.tune.searcher import Searcher, Study
from thalweg.tune.space import Position


@dataclass(frozen=True)
class Evolution(Searcher):
    """Regularised evolution: the best of a random few has a mutated child, and the oldest leaves.

    The population is the last ``population`` trials, whatever their results; the parent is the
    best of ``tournament`` of them, drawn at random. The child differs in one parameter at least:
    each moves with probability ``1 / d`` by a normal step of ``spread`` in units of its range,
    reflected at the ends; a choice that moves is drawn anew. The first trials are quasi-random.

    Args:
        population: how many trials may be parents.
        tournament: how many of them compete to be one.
        spread: standard deviation of a step.

    Raises:
        UsageError: a number is out of range.
    """

    population: int = 10
    tournament: int = 4
    spread: float = 0.15

    def __post_init__(self) -> None:
        check_whole("evolution: population", self.population, least=2)
        check_whole("evolution: tournament", self.tournament, least=1)
        check_number("evolution: spread", self.spread, "(0, inf)")
        if self.tournament > self.population:
            raise UsageError(
                f"evolution: tournament = {self.tournament} is more than population = "
                f"{self.population}; make it smaller"
            )

    def position(self, study: Study) -> Position:
        """Return a start, or a child."""
        number = len(study.trials)
        if number < self.population:
            return quasi_random(study, number)
        rng = study.rng("evolution", number)
        living = study.trials[-self.population :]
        drawn = [living[i] for i in rng.choice(len(living), self.tournament, replace=False)]
        able = [trial for trial in drawn if trial.loss is not None]
        if not able:
            return study.space.position(rng.random(len(study.space)))
        parent = min(able, key=lambda trial: (trial.loss, trial.number))
        return self._child(study, parent.position, rng)

    def _child(self, study: Study, parent: Position, rng: np.random.Generator) -> Position:
        space = study.space
        # A parameter that becomes active has no parent to take after.
        point = np.array([parent.get(name, rng.random()) for name in space.names])
        moves = rng.random(len(space)) < 1 / len(space)
        moves[rng.integers(len(space))] = True
        for i, one in enumerate(space.spaces.values()):
            if moves[i]:
                step = point[i] + self.spread * rng.standard_normal()
                point[i] = rng.random() if isinstance(one, Choice) else reflected(step)
        return space.position(point)


def reflected(u: float) -> float:
    """Return a number folded into [0, 1] at the ends."""
    u = abs(u) % 2
    return 2 - u if u > 1 else u
