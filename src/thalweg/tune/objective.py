"""What is searched: something that does trials."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.tune.searcher import Curve, Status, Trial


@dataclass(frozen=True)
class Job:
    """One trial to be done.

    Attributes:
        number: the trial's number.
        position: where.
        values: the values there.
        budget: what it may use up.
        parent: the trial that it continues, or None.
        reports: the budgets at which its loss is wanted, the last of which is its own.
        tell: takes budget used and loss, and returns whether to stop.
    """

    number: int
    position: Mapping[str, float]
    values: Mapping[str, Any]
    budget: float
    parent: Trial | None
    reports: Sequence[float]
    tell: Callable[[float, float], bool]


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        status: as `Trial` has it.
        loss: what is minimised; taken as a divergence if it is not finite.
        reached: where it stopped.
        curve: (budget used, loss) on the way.
        error: why it diverged or failed.
    """

    status: Status
    loss: float | None
    reached: float
    curve: Curve = ()
    error: str | None = None


class Objective(ABC):
    """What is searched: something that does jobs."""

    resumes = False

    @abstractmethod
    def evaluate(self, job: Job) -> Outcome:
        """Do a job; an exception in it is an outcome of the status ``failed``."""

    def keep(self, numbers: set[int], following: int) -> None:
        """Forget what was kept of other trials than these and the one that follows."""
        del numbers, following


class FunctionObjective(Objective):
    """A function of values, or of values and a budget."""

    def __init__(self, function: Callable[..., float], with_budget: bool) -> None:
        self._function = function
        self._with_budget = with_budget

    def evaluate(self, job: Job) -> Outcome:
        """Call the function at every budget that a report is wanted at."""
        curve: list[tuple[float, float]] = []
        for budget in job.reports:
            given = (dict(job.values), budget) if self._with_budget else (dict(job.values),)
            try:
                loss = float(self._function(*given))
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
                return Outcome("failed", None, budget, tuple(curve), text)
            if not math.isfinite(loss):
                text = f"the result was {loss}"
                return Outcome("diverged", None, budget, tuple(curve), text)
            curve.append((budget, loss))
            if job.tell(budget, loss):
                return Outcome("pruned", loss, budget, tuple(curve))
        return Outcome("ok", loss, job.budget, tuple(curve))
