"""Cycles of a part of a run: where they begin and end, for schedules and averages alike."""

import math
from dataclasses import dataclass


def first_of(start: float, steps: int) -> int:
    """Return the update, from 1, with which the part of a run begins that starts at a share."""
    return max(1, math.ceil(start * steps - 1e-9))


def is_due(step: int, steps: int, start: float, every: int = 1) -> bool:
    """Return whether a step's update is an ``every``-th one, from that on at which a part begins.

    Args:
        step: from 0.
        steps: of the whole run.
        start: where the part begins, as a share of the run in [0, 1].
        every: updates from one to the next.
    """
    past = step + 1 - first_of(start, steps)
    return past >= 0 and past % every == 0


@dataclass(frozen=True)
class Cycles:
    """The part of a run after update ``first_of(start, steps)``, cut into cycles.

    They are as equal as whole steps allow.

    Args:
        start: where the first begins, as a share of the run in [0, 1].
        cycles: how many, from 1; where fewer updates are left, each is a cycle.
    """

    start: float
    cycles: int

    def place(self, step: int, steps: int) -> tuple[int, int] | None:
        """Return how many updates of its cycle precede a step's, and the cycle's length.

        Args:
            step: from 0.
            steps: of the whole run.

        Returns:
            None for a step before the first cycle, or after the run.
        """
        first = first_of(self.start, steps)
        rest, into = steps - first, step - first
        if not 0 <= into < rest:
            return None
        count = min(self.cycles, rest)
        cycle = (into * count + count - 1) // rest  # the last whose begin is at most into
        begin, end = cycle * rest // count, (cycle + 1) * rest // count
        return into - begin, end - begin

    def ends(self, step: int, steps: int) -> bool:
        """Return whether a step's update is the last of a cycle."""
        found = self.place(step, steps)
        return found is not None and found[0] + 1 == found[1]

    def is_middle(self, step: int, steps: int) -> bool:
        """Return whether half of a cycle's updates, rounded down, precede a step's."""
        found = self.place(step, steps)
        return found is not None and found[0] == found[1] // 2
