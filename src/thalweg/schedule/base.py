"""What every schedule is."""

from abc import ABC, abstractmethod

from thalweg.core.checks import check_whole


class Schedule(ABC):
    """A factor of the peak learning rate, as a pure function of the step.

    Step ``t`` of ``T`` runs from 0; the factor of step ``t`` is that of the update that ``t``
    updates precede. A schedule that falls to zero reaches it at ``t = T``, after the last update,
    so that every one of the ``T`` updates moves.
    """

    def factor(self, step: int, steps: int) -> float:
        """Return the factor at a step.

        Args:
            step: updates done so far; past the end, the factor stays what it is at the end.
            steps: updates of the whole run.

        Returns:
            A number in [0, 1].

        Raises:
            UsageError: ``step`` is negative, or ``steps`` is not positive.
        """
        check_whole("schedule: step", step, least=0)
        check_whole("schedule: steps", steps, least=1)
        return self._at(min(step, steps), steps)

    @abstractmethod
    def _at(self, step: int, steps: int) -> float:
        """Return the factor at a step of [0, steps]."""


def share(fraction: float, steps: int) -> int:
    """Return a fraction of the steps as whole steps, rounded down.

    A product that misses a whole number by rounding alone (0.29 of 100) counts as that number.
    """
    return int(fraction * steps + 1e-9)
