"""Population-based training."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from thalweg.core.checks import check_number, check_whole
from thalweg.core.errors import UsageError
from thalweg.core.space import Choice, Linear, Log, Space
from thalweg.tune.plain import quasi_random
from thalweg.tune.searcher import Proposal, Searcher, Study, Trial, need_fidelity
from thalweg.tune.space import Position


@dataclass(frozen=True)
class PopulationBasedTraining(Searcher):
    """Population-based training: members train side by side, and the worst take from the best.

    There are as many members as trials. After each of ``generations`` equal parts of the budget
    the worst fifth (and whoever diverged or failed) continue from the weights and with the
    settings of a random one of the best fifth, of which each is then multiplied by 0.8 or 1.2 or,
    with the probability ``resample``, drawn anew. Choices are handed over as they are.

    Args:
        generations: how many parts the budget is cut into.
        share: the share that is replaced, and that it is replaced from.
        resample: the probability that a setting is drawn anew.

    Raises:
        UsageError: a number is out of range.
    """

    generations: int = 5
    share: float = 0.2
    resample: float = 0.25
    fidelity = True
    sized = True

    def __post_init__(self) -> None:
        check_whole("population: generations", self.generations, least=2)
        check_number("population: share", self.share, "(0, 0.5]")
        check_number("population: resample", self.resample, "[0, 1]")

    def check(self, study: Study) -> None:
        """Check that there are members enough, and that their training can be cut.

        Raises:
            UsageError: there are fewer than four, or it cannot.
        """
        need_fidelity("population", study)
        if study.budget < 4:
            raise UsageError(
                f"a population needs at least 4 members, and there are {study.budget} trials; "
                "allow more"
            )
        if study.most < self.generations * study.least * (1 - 1e-12):
            raise UsageError(
                f"{self.generations} generations need a budget of {self.generations} times the "
                f"least, {self.generations * study.least:g}, found {study.most:g}; train longer or "
                "take fewer generations"
            )

    def propose(self, study: Study) -> Proposal | None:
        """Return the next member's next part."""
        members, number = study.budget, len(study.trials)
        generation, member = divmod(number, members)
        if generation >= self.generations:
            return None
        budget = study.most * (generation + 1) / self.generations
        if generation == 0:
            return Proposal(quasi_random(study, number), budget)
        before = study.trials[(generation - 1) * members : generation * members]
        rng = study.rng("population", number)
        taken_from = self._donors(before)
        if not taken_from:
            return None
        own = before[member]
        if own.number not in self._replaced(before):
            return Proposal(own.position, budget, own.number)
        donor = taken_from[rng.integers(len(taken_from))]
        return Proposal(self._explored(study, donor.position, rng), budget, donor.number)

    def keeps(self, study: Study) -> Collection[int]:
        """Return the generation under way and the one before it."""
        first = max(0, (len(study.trials) // study.budget - 1) * study.budget)
        return {trial.number for trial in study.trials[first:]}

    def _ranked(self, generation: Sequence[Trial]) -> list[Trial]:
        able = [trial for trial in generation if trial.loss is not None]
        return sorted(able, key=lambda trial: (trial.loss, trial.number))

    def _donors(self, generation: Sequence[Trial]) -> list[Trial]:
        count = max(1, math.floor(self.share * len(generation)))
        return self._ranked(generation)[:count]

    def _replaced(self, generation: Sequence[Trial]) -> set[int]:
        ranked = self._ranked(generation)
        broken = {trial.number for trial in generation if trial.loss is None}
        count = max(0, max(1, math.floor(self.share * len(generation))) - len(broken))
        # The best is never replaced, however few are left.
        worst = ranked[1:][-count:] if count else []
        return broken | {trial.number for trial in worst}

    def _explored(self, study: Study, position: Position, rng: np.random.Generator) -> Position:
        found = {}
        for name, u in position.items():
            space = study.space.spaces[name]
            fresh, factor = rng.random(3)[:2]
            if isinstance(space, Choice):
                found[name] = u
            elif fresh < self.resample:
                found[name] = float(rng.random())
            else:
                found[name] = multiplied(space, u, 0.8 if factor < 0.5 else 1.2)
        return found


def multiplied(space: Space, u: float, factor: float) -> float:
    """Return where the value at ``u`` is after a multiplication, inside the range.

    Of a space that is logarithmic in ``1 - x`` it is ``1 - x`` that is multiplied.
    """
    if isinstance(space, Log):
        moved = u + math.log(factor) / math.log(space.high / space.low)
    elif isinstance(space, Linear):
        moved = (space.at(u) * factor - space.low) / (space.high - space.low)
    elif isinstance(space, Choice):
        raise UsageError("a choice has no multiples")
    else:
        moved = u - math.log(factor) / math.log((1 - space.low) / (1 - space.high))
    return min(max(moved, 0.0), 1.0)
