"""The loop of a search: propose, try, write down."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thalweg.core.checks import check_whole
from thalweg.core.errors import UsageError
from thalweg.core.space import Choice, Space
from thalweg.tune.catalogue import named
from thalweg.tune.ledger import Ledger
from thalweg.tune.objective import FunctionObjective, Job, Objective, Outcome
from thalweg.tune.searcher import Searcher, Study, Trial, best_of
from thalweg.tune.space import SearchSpace, When

EDGE = 0.1
"""A best value in the outer tenth of its range, at either end, lies at an edge."""


@dataclass(frozen=True)
class Found:
    """What a search has found.

    Attributes:
        space: where it looked.
        trials: all trials, in order.
    """

    space: SearchSpace
    trials: list[Trial] = field(repr=False)

    @property
    def best(self) -> Trial | None:
        """Return the best trial of the largest budget; None if none has a loss."""
        return best_of(self.trials)

    def edges(self) -> dict[str, str]:
        """Return the parameters whose best value lies at an edge of its range, and which edge."""
        return {} if self.best is None else edges(self.space, self.best.position)

    def importance(self) -> dict[str, float]:
        """Return each parameter's share of the variance; see `thalweg.tune.importance`."""
        from thalweg.tune.importance import importance

        return importance(self.space, self.trials)


def minimise(
    function: Callable[..., float],
    space: Mapping[str, Space | When],
    *,
    searcher: str | Searcher = "gp-ei",
    trials: int = 50,
    seed: int = 0,
    budgets: tuple[float, float] | None = None,
    storage: str | Path | None = None,
    name: str = "search",
    on_trial: Callable[[Trial], None] | None = None,
) -> Found:
    """Search the minimum of a function.

    Example::

        from thalweg import tune
        from thalweg.core.space import Linear

        def function(values):
            return (values["x"] - 1) ** 2

        found = tune.minimise(function, {"x": Linear(-5, 5)}, searcher="gp-ei", trials=20)
        print(found.best.values, found.best.loss)

    The same call gives the same trials. An exception in the function, and a result that is NaN or
    infinite, is a result: a trial without a loss, which searchers count as worse than the worst.

    Args:
        function: takes the values of the active parameters by name and returns what is minimised;
            with ``budgets`` it takes the budget as a second argument.
        space: parameter -> space, or `When` for one that is there at times.
        searcher: a searcher or what `named` takes, such as ``"tpe"`` or ``"hyperband(eta=4)"``.
        trials: how many trials of full length may be spent; of shorter ones there are more.
        seed: of everything random.
        budgets: the least and the full budget of a trial, for searchers that try for less first.
        storage: where the trials are kept, so that the same call continues after an interruption;
            see `thalweg.tune.ledger.Ledger`.
        name: the name in the storage.
        on_trial: is told of every new trial.

    Raises:
        UsageError: before any trial: a searcher, space, budget or storage that cannot be used.
    """
    if not callable(function):
        raise UsageError(f"expected a function of values, found {type(function).__name__}")
    least, most = _budgets(budgets)
    objective = FunctionObjective(function, with_budget=budgets is not None)
    return search(
        objective,
        SearchSpace(space),
        named(searcher),
        trials=trials,
        seed=seed,
        least=least,
        most=most,
        storage=storage,
        name=name,
        on_trial=on_trial,
    )


def search(
    objective: Objective,
    space: SearchSpace,
    searcher: Searcher,
    *,
    trials: int,
    seed: int,
    least: float,
    most: float,
    storage: str | Path | None = None,
    name: str = "search",
    identity: Mapping[str, Any] | None = None,
    on_begin: Callable[[Job], None] | None = None,
    on_trial: Callable[[Trial], None] | None = None,
) -> Found:
    """Search an objective; as `minimise`, which says what the arguments are.

    Args:
        objective: what does the jobs.
        space: where to look.
        searcher: proposes.
        trials: how many trials of full length may be spent.
        seed: of everything random.
        least: the least budget of a trial.
        most: its full budget.
        storage: where the trials are kept.
        name: the name in the storage.
        identity: what else a search must agree on to be continued.
        on_begin: is told of every job before it is done.
        on_trial: is told of every new trial.

    Raises:
        UsageError: as `minimise`.
    """
    check_whole("trials", trials, least=1)
    check_whole("seed", seed, least=0)

    def study(known: Sequence[Trial]) -> Study:
        return Study(space, tuple(known), seed, trials, least, most, objective.resumes)

    searcher.check(study(()))
    agreed = {
        "space": space.describe(),
        "searcher": type(searcher).__name__,
        "settings": searcher.settings(),
        "seed": seed,
        "least": least,
        "most": most,
        **({"trials": trials} if searcher.sized else {}),
        **(identity or {}),
    }
    ledger = Ledger(space, storage, name, agreed)
    while True:
        now = study(ledger.trials)
        objective.keep(set(searcher.keeps(now)), len(ledger.trials))
        proposal = searcher.propose(now)
        if proposal is None:
            return Found(space, ledger.trials)
        curve: list[tuple[float, float]] = []

        def tell(used: float, loss: float, now=now, proposal=proposal, curve=curve) -> bool:
            if not math.isfinite(loss):
                return False
            curve.append((float(used), float(loss)))
            if used >= proposal.budget:
                return False
            return searcher.stops(now, proposal, tuple(curve))

        job = Job(
            number=len(ledger.trials),
            position=proposal.position,
            values=space.values(proposal.position),
            budget=proposal.budget,
            parent=None if proposal.parent is None else ledger.trials[proposal.parent],
            reports=searcher.reports(now, proposal),
            tell=tell,
        )
        if on_begin is not None:
            on_begin(job)
        trial = _done(objective, job)
        ledger.add(trial)
        if on_trial is not None:
            on_trial(trial)


def edges(space: SearchSpace, position: Mapping[str, float]) -> dict[str, str]:
    """Return which parameters of a position lie in the outer tenth of their range: which end."""
    found = {}
    for name, u in position.items():
        if not isinstance(space.spaces[name], Choice) and not EDGE <= u <= 1 - EDGE:
            found[name] = "lower" if u < EDGE else "upper"
    return found


def _done(objective: Objective, job: Job) -> Trial:
    begun = time.perf_counter()
    try:
        outcome = objective.evaluate(job)
    except Exception as error:
        outcome = Outcome("failed", None, 0.0, error=f"{type(error).__name__}: {error}")
    status, loss, error = outcome.status, outcome.loss, outcome.error
    if status in ("ok", "pruned") and (loss is None or not math.isfinite(loss)):
        status, error = "diverged", error or f"the result was {loss}"
    has_loss = status in ("ok", "pruned") and loss is not None
    return Trial(
        number=job.number,
        position=dict(job.position),
        values=dict(job.values),
        budget=job.budget,
        parent=None if job.parent is None else job.parent.number,
        status=status,
        loss=float(loss) if has_loss and loss is not None else None,
        reached=float(outcome.reached),
        curve=tuple((float(u), float(y)) for u, y in outcome.curve if math.isfinite(y)),
        error=error,
        seconds=time.perf_counter() - begun,
    )


def _budgets(budgets: tuple[float, float] | None) -> tuple[float, float]:
    if budgets is None:
        return 1.0, 1.0
    try:
        least, most = (float(one) for one in budgets)
    except (TypeError, ValueError):
        raise UsageError(f"budgets are two numbers (least, most), found {budgets!r}") from None
    if not 0 < least <= most < math.inf:
        raise UsageError(f"budgets need 0 < least <= most, found {budgets!r}")
    return least, most
