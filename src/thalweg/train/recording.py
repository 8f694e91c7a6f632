"""Recording the weights along a run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from thalweg.core.checks import check_whole
from thalweg.core.errors import UsageError
from thalweg.landscape.trajectory import InFolder, InMemory, Trajectory, recorded
from thalweg.train.events import Callback

if TYPE_CHECKING:
    from thalweg.train.run import Run


class RecordTrajectory(Callback):
    """Records the training weights at steps of a run, for `thalweg.landscape`.

    A record is one copy of the weights and buffers to the CPU, or a file of them; it does not
    count as training time. The start and the last step are always recorded. A run that continues
    from a checkpoint adds to what is in the folder.

    Args:
        every: steps between records; ignored where ``at`` is given.
        at: the very steps to record.
        folder: for files in safetensors; in memory unless given.

    Attributes:
        trajectory: what was recorded so far.

    Raises:
        UsageError: ``every`` is no whole number from 1; or, when a run begins, another one was
            recorded there.
    """

    def __init__(
        self,
        every: int = 1,
        *,
        at: Iterable[int] | None = None,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        check_whole("RecordTrajectory: every", every, 1)
        self._every = every
        self._at = None if at is None else frozenset(at)
        self.trajectory: Trajectory = InMemory() if folder is None else InFolder(folder)

    def on_start(self, run: Run) -> None:
        """Record the weights before the first step."""
        if run.step == 0 and self.trajectory.steps:
            raise UsageError(
                "there is a trajectory of another run already where this one is to be recorded; "
                "choose another folder, or delete it"
            )
        if run.step not in self.trajectory.steps:
            self._record(run, run.step)

    def on_step(self, run: Run, step: int, loss: float) -> None:
        """Record the weights where it is due."""
        del loss
        due = step % self._every == 0 if self._at is None else step in self._at
        if due or step == run.settings.steps:
            self._record(run, step)

    def _record(self, run: Run, step: int) -> None:
        self.trajectory.add(step, recorded(run.model))
