"""Synchronous searchers that give good trials more: successive halving, Hyperband, BOHB."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from thalweg.core.checks import check_choice, check_number, check_whole
from thalweg.core.errors import UsageError
from thalweg.core.seeds import derive_seed
from thalweg.tune.brackets import Bracket, bracket, fitting, hyperband, largest, promoted
from thalweg.tune.extra import optuna
from thalweg.tune.plain import quasi_random
from thalweg.tune.searcher import Proposal, Searcher, Study, Trial, need_fidelity
from thalweg.tune.space import Position
from thalweg.tune.tpe import estimated


@dataclass(frozen=True)
class _Halving(Searcher, ABC):
    """What they have in common: brackets, walked through in order.

    Args:
        eta: one trial in so many goes on, with so many times the budget.
    """

    eta: int = 3
    fidelity = True

    def __post_init__(self) -> None:
        check_whole("eta", self.eta, least=2)

    @abstractmethod
    def brackets(self, study: Study) -> list[Bracket]:
        """Return the brackets of one round."""

    def check(self, study: Study) -> None:
        """Check that trials of different lengths make sense and that a bracket fits.

        Raises:
            UsageError: they do not, or it does not.
        """
        name = type(self).__name__
        need_fidelity(name, study)
        brackets = self.brackets(study)
        if next(fitting(brackets, study.budget * study.most, study.resumes), None) is None:
            costs = [one.cost(study.resumes) / study.most for one in brackets]
            least = -int(-min(costs) // 1)
            raise UsageError(
                f"{name}: a budget of {study.budget} trials is smaller than one bracket, the "
                f"smallest of which costs as much as {min(costs):.3g} trials of full length; allow "
                f"{least} trials, or choose a larger eta or least budget"
            )

    def propose(self, study: Study) -> Proposal | None:
        """Return the next trial of the rung that the trials so far lead to."""
        for _, rung, parents, budget, size in self._walk(study):
            number = len(rung)
            if number < size:
                if parents is None:
                    return Proposal(self.sample(study), budget)
                parent = parents[number]
                return Proposal(parent.position, budget, parent.number)
        return None

    def sample(self, study: Study) -> Position:
        """Return where a new trial looks."""
        return quasi_random(study, self._begun(study))

    def keeps(self, study: Study) -> Collection[int]:
        """Return the trials of the rung under way and of the one before it."""
        kept: set[int] = set()
        for _, rung, parents, _, size in self._walk(study):
            kept = {trial.number for trial in (*(parents or ()), *rung)}
            if len(rung) < size:
                break
        return kept

    def _begun(self, study: Study) -> int:
        """Return how many positions have been sampled."""
        return sum(trial.parent is None for trial in study.trials)

    def _walk(
        self, study: Study
    ) -> Iterator[tuple[Bracket, list[Trial], list[Trial] | None, float, int]]:
        """Return rung by rung: its trials, whom they continue, budget, and planned size."""
        start = 0
        trials = list(study.trials)
        allowed = study.budget * study.most
        for one in fitting(self.brackets(study), allowed, study.resumes):
            parents: list[Trial] | None = None
            for index, (size, budget) in enumerate(zip(one.sizes, one.budgets, strict=True)):
                planned = size if parents is None else len(parents)
                rung = trials[start : start + planned]
                yield one, rung, parents, budget, planned
                if len(rung) < planned:
                    return
                start += planned
                if index + 1 < len(one.sizes):
                    parents = promoted(rung, one.sizes[index + 1])


@dataclass(frozen=True)
class SuccessiveHalving(_Halving):
    """Successive halving: many short trials, of which the best third goes on three times longer.

    A bracket begins with ``eta^s`` trials, ``s = floor(log_eta(most / least))``, and ends with one
    of full length; brackets follow each other while they fit into the budget.
    """

    def brackets(self, study: Study) -> list[Bracket]:
        """Return the one bracket."""
        cuts = largest(study.least, study.most, self.eta)
        return [bracket(self.eta**cuts, cuts, study.most, self.eta)]


@dataclass(frozen=True)
class Hyperband(_Halving):
    """Hyperband: brackets of successive halving that cut early, later and not at all."""

    def brackets(self, study: Study) -> list[Bracket]:
        """Return the brackets of the paper's Algorithm 1."""
        return hyperband(study.least, study.most, self.eta)


@dataclass(frozen=True)
class BOHB(Hyperband):
    """BOHB: Hyperband whose trials are chosen by TPE from what shorter and longer trials showed.

    With ``model="all"`` TPE sees every position once, at the longest budget that it got to, and
    one that got further is better than one that did not; of equal budgets the loss decides. With
    ``model="largest"``, as in the paper, it sees the results of the largest budget that has
    ``d + 3`` of them. In both, with the probability ``random``, and before there are ``d + 3``
    results, a trial is quasi-random. In TPE, as Optuna has it, a tenth of the results is good,
    where the paper takes 15 %. Needs the extra ``tune``.

    Args:
        eta: one trial in so many goes on, with so many times the budget.
        random: the share of trials that no model chooses.
        model: ``"all"`` or ``"largest"``.
    """

    random: float = 1 / 3
    model: str = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("bohb: random", self.random, "[0, 1]")
        check_choice("bohb: model", self.model, ("all", "largest"))

    def check(self, study: Study) -> None:
        """Check as Hyperband does, and that Optuna is there."""
        super().check(study)
        optuna("the searcher bohb")

    def sample(self, study: Study) -> Position:
        """Return where TPE looks."""
        known = self._known(study)
        number = len(study.trials)
        if known is None or study.rng("bohb", number).random() < self.random:
            return quasi_random(study, self._begun(study))
        return estimated(study.space, known, derive_seed(study.seed, "bohb", number))

    def _known(self, study: Study) -> list[Trial] | None:
        """Return what the model learns from, or None if that is too little."""
        enough = len(study.space) + 3
        if self.model == "all":
            known = _ranked(study.trials)
            return known if sum(trial.loss is not None for trial in known) >= enough else None
        for budget in sorted({trial.budget for trial in study.trials}, reverse=True):
            known = [trial for trial in study.trials if trial.budget == budget]
            if sum(trial.loss is not None for trial in known) >= enough:
                return known
        return None


def _ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Return every position's last trial, its loss replaced by its rank."""
    continued = {trial.parent for trial in trials}
    last = [trial for trial in trials if trial.number not in continued]
    able = [trial for trial in last if trial.loss is not None]
    order = sorted(able, key=lambda trial: (-trial.budget, trial.loss, trial.number))
    broken = [trial for trial in last if trial.loss is None]
    return [*(replace(trial, loss=float(i)) for i, trial in enumerate(order)), *broken]
