"""Events of a training run, for progress displays, loggers and the like."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thalweg.core.errors import UsageError
from thalweg.train.result import Point, Result

if TYPE_CHECKING:
    from thalweg.train.run import Run


class Callback:
    """Base of what listens to a run; override the events you need.

    A callback's time is not counted as training time. It may draw from global random generators
    without changing the run, except in `on_step`, which is called inside the run's own random
    stream for the sake of speed: draw from a generator of your own there. An exception from a
    callback ends the run.

    Attributes:
        key: the name under which `state_dict` is kept in checkpoints, for callbacks that go on from
            where they were; None for those that do not.
    """

    key: str | None = None

    def on_start(self, run: "Run") -> None:
        """Listen to the start, before the first step (or the first after a checkpoint)."""

    def on_step(self, run: "Run", step: int, loss: float) -> None:
        """Listen to a finished step, counted from 1, and its training loss."""

    def on_evaluate(self, run: "Run", point: Point) -> None:
        """Listen to an evaluation."""

    def on_checkpoint(self, run: "Run", path: Path) -> None:
        """Listen to a checkpoint that was written."""

    def on_end(self, run: "Run", result: Result) -> None:
        """Listen to the end, whatever the status."""

    def state_dict(self) -> dict[str, Any]:
        """Return what the callback goes on from: nested data and tensors."""
        return {}

    def load_state_dict(self, run: "Run", state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; called before `on_start`."""


def states_of(callbacks: Sequence[Callback]) -> dict[str, Any]:
    """Return by key the states of those that are kept in checkpoints."""
    return {c.key: c.state_dict() for c in callbacks if c.key is not None}


def load_states(callbacks: Sequence[Callback], run: "Run", states: dict[str, Any]) -> None:
    """Give each of them back the state that `states_of` returned.

    Raises:
        UsageError: there is none for one of them.
    """
    for callback in callbacks:
        if callback.key is None:
            continue
        if callback.key not in states:
            raise UsageError(
                f"the checkpoint was made without {callback.key}, which cannot begin in the "
                "middle of a run; leave it out, or start over in another folder"
            )
        callback.load_state_dict(run, states[callback.key])
