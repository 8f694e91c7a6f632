"""Searchers that do not look at results: grid, random, quasi-random."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.stats import qmc

from thalweg.core.checks import check_whole
from thalweg.core.errors import UsageError
from thalweg.core.seeds import derive_seed
from thalweg.core.space import Choice
from thalweg.tune.searcher import Searcher, Study
from thalweg.tune.space import Position


def halton(dimensions: int, number: int, seed: int) -> np.ndarray:
    """Return the first points (number, dimensions) of a scrambled Halton sequence.

    Point ``k`` and coordinate ``d`` depend only on the seed, ``k`` and ``d``: not on how many
    points or dimensions there are.
    """
    scrambling = np.random.default_rng(derive_seed(seed, "search"))
    return qmc.Halton(dimensions, scramble=True, rng=scrambling).random(number)


@dataclass(frozen=True)
class RandomSearch(Searcher):
    """Independent uniform points.

    ``n`` trials come within the best 5 % of the volume with probability ``1 - 0.95 ** n``.
    """

    looks_back = False

    def position(self, study: Study) -> Position:
        """Return a uniform point."""
        return study.space.position(study.rng("random", len(study.trials)).random(len(study.space)))


@dataclass(frozen=True)
class QuasiRandomSearch(Searcher):
    """The points of a scrambled Halton sequence, which leave no large hole; what races use."""

    looks_back = False

    def position(self, study: Study) -> Position:
        """Return the next point of the sequence."""
        return quasi_random(study, len(study.trials))


def quasi_random(study: Study, number: int) -> Position:
    """Return the position of the point with that number, also as a start for other searchers."""
    return study.space.position(halton(len(study.space), number + 1, study.seed)[number])


@dataclass(frozen=True)
class GridSearch(Searcher):
    """Every combination of evenly spaced values, ends included, and of all values of choices.

    Args:
        points: values of each parameter that is no choice; by default two of each, then one more
            of each in turn while the grid fits into the trials.
    """

    points: int | None = None
    looks_back = False
    sized = True

    def __post_init__(self) -> None:
        if self.points is not None:
            check_whole("grid: points", self.points, least=1)

    def check(self, study: Study) -> None:
        """Check that the grid fits into the trials.

        Raises:
            UsageError: it does not.
        """
        self._positions(study)

    def position(self, study: Study) -> Position | None:
        """Return the next point of the grid, or None after the last."""
        positions = self._positions(study)
        return positions[len(study.trials)] if len(study.trials) < len(positions) else None

    def _positions(self, study: Study) -> list[Position]:
        space = study.space
        numeric = [name for name, one in space.spaces.items() if not isinstance(one, Choice)]
        counts = dict.fromkeys(numeric, self.points or 2)
        found = self._fitting(study, counts)
        if found is None:
            size = sum(1 for _ in space.grid(counts)) if len(numeric) < 15 else 2 ** len(numeric)
            raise UsageError(
                f"a grid of {self.points or 2} values of each of {len(numeric)} parameters has "
                f"{size} points, and {study.budget} trials do not cover it; allow {size} trials, "
                "fix some parameters, or use another searcher, such as quasi-random"
            )
        if self.points is None and numeric:
            for name in itertools.cycle(numeric):
                finer = {**counts, name: counts[name] + 1}
                larger = self._fitting(study, finer)
                if larger is None:
                    break
                counts, found = finer, larger
        return found

    def _fitting(self, study: Study, counts: dict[str, int]) -> list[Position] | None:
        found = list(itertools.islice(study.space.grid(counts), study.budget + 1))
        return found if len(found) <= study.budget else None
