"""Asynchronous successive halving and Hyperband: trials that are stopped as they run, by Optuna."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from thalweg.core.checks import check_whole
from thalweg.tune.brackets import largest
from thalweg.tune.extra import optuna
from thalweg.tune.plain import quasi_random
from thalweg.tune.searcher import Curve, Proposal, Searcher, Study, Trial, need_fidelity


@dataclass(frozen=True)
class _Asynchronous(Searcher, ABC):
    """What both have in common: quasi-random trials, and a rule that stops them.

    Args:
        eta: one trial in so many goes on, to so many times the budget.
    """

    eta: int = 3
    _mirrors: dict[int, _Mirror] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    fidelity = True

    def __post_init__(self) -> None:
        check_whole("eta", self.eta, least=2)

    @abstractmethod
    def _pruner(self, study: Study, package: Any) -> Any:
        """Return the pruner of Optuna, the package, for a study."""

    def check(self, study: Study) -> None:
        """Check that trials of different lengths make sense, and that Optuna is there.

        Raises:
            UsageError: they do not, or it is not.
        """
        need_fidelity(type(self).__name__, study)
        optuna(f"the searcher {type(self).__name__}")

    def propose(self, study: Study) -> Proposal | None:
        """Return a quasi-random trial, as long as one of full length can be paid for."""
        if study.left() < study.most * (1 - 1e-12):
            return None
        return Proposal(quasi_random(study, len(study.trials)), study.most)

    def reports(self, study: Study, proposal: Proposal) -> Sequence[float]:
        """Return the rungs."""
        cuts = largest(study.least, study.most, self.eta)
        return tuple(study.most / self.eta ** (cuts - i) for i in range(cuts + 1))

    def stops(self, study: Study, proposal: Proposal, curve: Curve) -> bool:
        """Return whether the trial is not among the best of those that came so far."""
        rungs = self.reports(study, proposal)
        mirror = self._mirrors.get(study.seed)
        if mirror is None or not mirror.follows(study.trials, curve):
            package = optuna("an asynchronous searcher")
            mirror = _Mirror(package, self._pruner(study, package), rungs, self.eta)
            self._mirrors[study.seed] = mirror
        return mirror.prunes(study.trials, curve)


class _Mirror:
    """An Optuna study in memory that is told the same trials.

    Optuna notes the rungs of a trial as it is asked about them, so that trials are told one after
    the other, each asked about as it was when it ran.
    """

    def __init__(self, package: Any, pruner: Any, rungs: Sequence[float], eta: int) -> None:
        self._states = package.trial.TrialState
        # Hyperband deals trials to brackets by the name and the number.
        self._study = package.create_study(
            study_name="thalweg", sampler=package.samplers.RandomSampler(seed=0), pruner=pruner
        )
        self._rungs = rungs
        self._eta = eta
        self._trials: list[Trial] = []
        self._running: Any = None
        self._curve: Curve = ()
        self._passed = 0

    def follows(self, trials: Sequence[Trial], curve: Curve) -> bool:
        """Return whether what was told is the beginning of this."""
        told = len(self._trials)
        if list(trials[:told]) != self._trials:
            return False
        running = curve if len(trials) == told else trials[told].curve
        return running[: len(self._curve)] == self._curve

    def prunes(self, trials: Sequence[Trial], curve: Curve) -> bool:
        """Tell what is new, and return whether the running trial is pruned."""
        for trial in trials[len(self._trials) :]:
            self._report(trial.curve)
            if trial.loss is None:
                self._study.tell(self._running, state=self._states.FAIL)
            elif trial.status == "pruned":
                self._study.tell(self._running, state=self._states.PRUNED)
            else:
                self._study.tell(self._running, trial.loss)
            self._trials.append(trial)
            self._running, self._curve, self._passed = None, (), 0
        return self._report(curve)

    def _report(self, curve: Curve) -> bool:
        """Tell the new points of a curve, its rungs numbered by powers of eta, and ask."""
        if self._running is None:
            self._running = self._study.ask()
        verdict = False
        for used, loss in curve[len(self._curve) :]:
            passed = sum(used >= rung * (1 - 1e-9) for rung in self._rungs)
            if passed > self._passed:
                self._passed = passed
                self._running.report(loss, self._eta ** (passed - 1))
                verdict = self._running.should_prune()
        self._curve = curve
        return verdict


@dataclass(frozen=True)
class AsynchronousHalving(_Asynchronous):
    """Asynchronous successive halving: at each rung a trial goes on if it is among the best third.

    Of those that have got there so far; nobody waits for a rung to fill. Needs the extra ``tune``.
    """

    def _pruner(self, study: Study, package: Any) -> Any:
        return package.pruners.SuccessiveHalvingPruner(
            min_resource=1, reduction_factor=self.eta, min_early_stopping_rate=0
        )


@dataclass(frozen=True)
class AsynchronousHyperband(_Asynchronous):
    """Asynchronous Hyperband: trials are dealt to brackets of asynchronous successive halving.

    Needs the extra ``tune``.
    """

    def _pruner(self, study: Study, package: Any) -> Any:
        cuts = largest(study.least, study.most, self.eta)
        return package.pruners.HyperbandPruner(
            min_resource=1, max_resource=self.eta**cuts, reduction_factor=self.eta
        )
