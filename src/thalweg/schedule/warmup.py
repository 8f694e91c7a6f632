"""Warm-up, and the join of it with what follows."""

from dataclasses import dataclass

from thalweg.core.checks import check_number
from thalweg.core.errors import UsageError
from thalweg.schedule.base import Schedule, share


@dataclass(frozen=True)
class Warmup(Schedule):
    r"""A straight climb to the peak: ``t/W + (1 - t/W) initial`` for ``t < W``, then 1.

    The climb starts at a hundredth of the peak and not at zero, so that the first update moves
    (as in Hägele et al., 2024, arXiv:2405.18392). Warm-up itself: Goyal et al., "Accurate, Large
    Minibatch SGD", 2017, arXiv:1706.02677.

    Args:
        fraction: ``W / T``, in [0, 1); ``W`` is rounded down.
        initial: the factor at the first step, in [0, 1].

    Raises:
        UsageError: an impossible value.
    """

    fraction: float = 0.05
    initial: float = 0.01

    def __post_init__(self) -> None:
        check_number("warmup: fraction", self.fraction, "[0, 1)")
        check_number("warmup: initial", self.initial, "[0, 1]")

    def length(self, steps: int) -> int:
        """Return ``W``, the steps that the climb takes out of so many; at least one is left."""
        return min(share(self.fraction, steps), steps - 1)

    def _at(self, step: int, steps: int) -> float:
        length = self.length(steps)
        if step >= length:
            return 1.0
        return step / length + (1 - step / length) * self.initial


@dataclass(frozen=True)
class Chain(Schedule):
    """A warm-up, then another schedule over the steps that are left.

    Both are at the peak where they meet: the rest's step 0 is the first step after the climb.

    Args:
        warmup: the climb.
        rest: what follows; of ``T`` steps with ``W`` of warm-up it sees ``T - W``.

    Raises:
        UsageError: the parts are of other kinds.
    """

    warmup: Warmup
    rest: Schedule

    def __post_init__(self) -> None:
        if not isinstance(self.warmup, Warmup) or not isinstance(self.rest, Schedule):
            raise UsageError(
                "a chain joins a warm-up and a schedule, found "
                f"{type(self.warmup).__name__} and {type(self.rest).__name__}"
            )

    def _at(self, step: int, steps: int) -> float:
        length = self.warmup.length(steps)
        if step < length:
            return self.warmup.factor(step, steps)
        return self.rest.factor(step - length, steps - length)
