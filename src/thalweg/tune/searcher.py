"""What a searcher is: a pure function from the trials so far to the next one."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from thalweg.core.errors import UsageError
from thalweg.core.seeds import derive_seed
from thalweg.tune.space import Position, SearchSpace

Status = Literal["ok", "pruned", "diverged", "failed"]
Curve = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Proposal:
    """What to try next.

    Attributes:
        position: where, by active parameter.
        budget: how much of whatever a trial costs (steps of training) it may use up to its end.
        parent: the number of the trial that it continues: the same position with a larger budget,
            or, in a population, another position from that trial's weights.
    """

    position: Position
    budget: float
    parent: int | None = None


@dataclass(frozen=True)
class Trial:
    """What was tried, and what came of it.

    Attributes:
        number: its place in the order of proposals, from 0.
        position: as proposed.
        values: the values there.
        budget: as proposed.
        parent: as proposed.
        status: ``ok``; ``pruned`` (stopped early, because others were better at that point);
            ``diverged`` (the result was NaN or infinite); ``failed`` (an exception).
        loss: what is minimised, finite; None unless the trial is ``ok`` or ``pruned``.
        reached: where it stopped, in units of the budget.
        curve: (budget used, loss) on the way.
        error: why it diverged or failed.
        seconds: what it took.
    """

    number: int
    position: Position
    values: dict[str, Any]
    budget: float
    parent: int | None
    status: Status
    loss: float | None
    reached: float
    curve: Curve = ()
    error: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Study:
    """All that a searcher knows.

    Attributes:
        space: where to look.
        trials: what was tried, in order.
        seed: of everything random.
        budget: how many trials of full length may be spent in all.
        least: the smallest budget of a trial that says anything.
        most: the budget of a trial of full length.
        resumes: whether a trial that continues another one costs only the rest.
    """

    space: SearchSpace
    trials: Sequence[Trial]
    seed: int
    budget: int
    least: float = 1.0
    most: float = 1.0
    resumes: bool = False

    def rng(self, *stream: str | int) -> np.random.Generator:
        """Return the random generator of a stream, fresh."""
        return np.random.default_rng(derive_seed(self.seed, "searcher", *stream))

    def spent(self) -> float:
        """Return what all trials have cost, in units of a trial's budget."""
        return math.fsum(self.cost(trial) for trial in self.trials)

    def cost(self, trial: Trial) -> float:
        """Return what one trial has cost."""
        before = 0.0
        if self.resumes and trial.parent is not None:
            before = self.trials[trial.parent].reached
        return max(0.0, trial.reached - before)

    def left(self) -> float:
        """Return what may still be spent."""
        return self.budget * self.most - self.spent()


class Searcher:
    """Base of all searchers.

    `propose` reads the study and nothing else, so that a search that was interrupted goes on as
    if it had not been. A subclass is a frozen dataclass whose fields are its settings, registered
    as a part of the kind ``searcher``.

    Attributes:
        fidelity: whether trials have different budgets.
        looks_back: whether proposals depend on results; those that do not may run in any order.
        sized: whether proposals depend on how many trials there will be.
    """

    fidelity: ClassVar[bool] = False
    looks_back: ClassVar[bool] = True
    sized: ClassVar[bool] = False

    def check(self, study: Study) -> None:
        """Check, before any work, that this searcher can search there.

        Raises:
            UsageError: it cannot; the message says why, and what to do.
        """

    def propose(self, study: Study) -> Proposal | None:
        """Return what to try next, or None when there is nothing more to try."""
        if len(study.trials) >= study.budget:
            return None
        position = self.position(study)
        return None if position is None else Proposal(position, study.most)

    def position(self, study: Study) -> Position | None:
        """Return where to look next, for a searcher whose trials all have full length.

        A subclass has this method, or `propose`.
        """
        raise NotImplementedError(f"{type(self).__name__} has neither position nor propose")

    def reports(self, study: Study, proposal: Proposal) -> Sequence[float]:
        """Return at which budgets a trial should tell its loss; its end is always one."""
        return (proposal.budget,)

    def stops(self, study: Study, proposal: Proposal, curve: Curve) -> bool:
        """Return whether a trial that has told this much should stop."""
        return False

    def keeps(self, study: Study) -> Collection[int]:
        """Return the trials that the next ones may continue, whose weights have to be kept."""
        return ()

    def settings(self) -> dict[str, Any]:
        """Return the settings as JSON-ready data."""
        assert is_dataclass(self)
        return {field.name: getattr(self, field.name) for field in fields(self) if field.init}


def penalised(trials: Sequence[Trial]) -> np.ndarray | None:
    """Return the losses of trials (n,), with a finite number for those that have none.

    A trial that diverged or failed counts as worse than the worst by as much as that is worse
    than the best (by 1 if all are equal). None if no trial has a loss.
    """
    known = [trial.loss for trial in trials if trial.loss is not None]
    if not known:
        return None
    worst, best = max(known), min(known)
    penalty = worst + ((worst - best) or 1.0)
    return np.array([penalty if trial.loss is None else trial.loss for trial in trials])


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Return the best trial among those of the largest budget that any has got to.

    The earlier one where two are equal; None if none has a loss.
    """
    known = [trial for trial in trials if trial.loss is not None and trial.status == "ok"]
    known = known or [trial for trial in trials if trial.loss is not None]
    longest = max((trial.reached for trial in known), default=0.0)
    last = [trial for trial in known if trial.reached == longest]
    return min(last, key=lambda trial: (trial.loss, trial.number), default=None)


def need_fidelity(slug: str, study: Study) -> None:
    """Raise a `UsageError` unless trials of different lengths make sense."""
    if not 0 < study.least < study.most:
        raise UsageError(
            f"{slug} compares trials of different lengths; give a least budget below the full one, "
            f"found least = {study.least:g} and most = {study.most:g}"
        )
