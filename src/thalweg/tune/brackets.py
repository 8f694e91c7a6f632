"""The arithmetic of successive halving and Hyperband."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from thalweg.tune.searcher import Trial


@dataclass(frozen=True)
class Bracket:
    """One run of successive halving.

    Attributes:
        sizes: trials of each rung.
        budgets: what each of them may use up to there.
    """

    sizes: tuple[int, ...]
    budgets: tuple[float, ...]

    def cost(self, resumes: bool) -> float:
        """Return what it costs; if trials go on from where they were, only the differences."""
        before = (0.0, *self.budgets[:-1]) if resumes else (0.0,) * len(self.budgets)
        steps = zip(self.sizes, self.budgets, before, strict=True)
        return math.fsum(size * (budget - start) for size, budget, start in steps)


def largest(least: float, most: float, eta: int) -> int:
    """Return ``floor(log_eta(most / least))``: how often a trial can be cut."""
    # By products: a quotient of logarithms gives 4.999... for 243 and 3.
    cuts = 0
    while least * eta ** (cuts + 1) <= most * (1 + 1e-12):
        cuts += 1
    return cuts


def bracket(size: int, cuts: int, most: float, eta: int) -> Bracket:
    """Return the bracket that begins with so many trials and keeps one in ``eta``, ``cuts`` times.

    Rung ``i`` has ``floor(size / eta^i)`` trials with a budget of ``most / eta^(cuts - i)``.
    """
    rungs = range(cuts + 1)
    return Bracket(
        sizes=tuple(size // eta**i for i in rungs),
        budgets=tuple(most / eta ** (cuts - i) for i in rungs),
    )


def hyperband(least: float, most: float, eta: int) -> list[Bracket]:
    """Return the brackets of one round, the one that cuts most first.

    By the formula of the paper's Algorithm 1, with ``s_max = floor(log_eta(most / least))``: for
    ``s = s_max, ..., 0`` there are ``ceil((s_max + 1) / (s + 1) eta^s)`` trials, which begin with
    ``most / eta^s``. (The paper's own table for 81 and 3 has 27, 9, 6 where that formula has 34,
    15, 8; other implementations follow the table.)
    """
    top = largest(least, most, eta)
    return [bracket(-(-(top + 1) * eta**s // (s + 1)), s, most, eta) for s in range(top, -1, -1)]


def fitting(brackets: Sequence[Bracket], allowed: float, resumes: bool) -> Iterator[Bracket]:
    """Return brackets in turn, round after round, as long as one fits into what is left.

    What a bracket costs is counted before it runs, so that the sequence does not depend on
    results.
    """
    left, skipped = allowed, 0
    for one in itertools.cycle(brackets):
        cost = one.cost(resumes)
        if cost <= left * (1 + 1e-12):
            left, skipped = left - cost, 0
            yield one
        else:
            skipped += 1
            if skipped == len(brackets):
                return


def promoted(rung: Sequence[Trial], keep: int) -> list[Trial]:
    """Return the trials that go on: the best, in order of their numbers.

    A trial without a loss never does, even if fewer than ``keep`` are left.
    """
    able = [trial for trial in rung if trial.loss is not None]
    best = sorted(able, key=lambda trial: (trial.loss, trial.number))[:keep]
    return sorted(best, key=lambda trial: trial.number)
