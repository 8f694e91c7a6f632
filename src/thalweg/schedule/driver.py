"""From a schedule to the learning rates of an optimiser."""

from typing import Any

import torch
from torch import Tensor

from thalweg.core.checks import check_whole
from thalweg.core.errors import UsageError
from thalweg.schedule.base import Schedule


class LearningRate:
    """Sets the learning rate of every parameter group to its peak times the schedule's factor.

    The peak is the group's ``initial_lr``, or its ``lr`` when first met (torch's convention).
    The rate of step 0 is set at once; call `step` after every update::

        learning_rate = LearningRate(optimizer, Linear(), steps)
        for batch in batches:
            ...
            optimizer.step()
            learning_rate.step()

    A learning rate that is a tensor is filled in place, so that compiled steps see the change.

    Args:
        optimizer: any torch optimiser.
        schedule: the factor as a function of the step.
        steps: updates of the whole run.

    Raises:
        UsageError: no steps, no schedule, or a parameter group without a learning rate.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, schedule: Schedule, steps: int) -> None:
        check_whole("learning rate: steps", steps, least=1)
        if not isinstance(schedule, Schedule):
            raise UsageError(f"expected a schedule, found {type(schedule).__name__}")
        for group in optimizer.param_groups:
            if "lr" not in group:
                raise UsageError(
                    f"{type(optimizer).__name__} has a parameter group without a learning rate "
                    '("lr"), so a schedule has nothing to set; leave the schedule out'
                )
        self.optimizer = optimizer
        self.schedule = schedule
        self.steps = steps
        self.last_step = 0
        self._apply()

    @property
    def factor(self) -> float:
        """Return the factor now in force."""
        return self.schedule.factor(self.last_step, self.steps)

    def step(self) -> None:
        """Move on to the next step's learning rates; past the end they stay."""
        self.last_step += 1
        self._apply()

    def get_last_lr(self) -> list[float]:
        """Return the learning rate of every parameter group, as torch's schedulers do."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return the step; all else is in the optimiser and the schedule."""
        return {"step": self.last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved step, with its learning rates. Load the optimiser first.

        Raises:
            UsageError: the dictionary holds no step.
        """
        if "step" not in state_dict:
            raise UsageError(f'a learning rate\'s state has a "step", found {sorted(state_dict)}')
        check_whole("learning rate: step", state_dict["step"], least=0)
        self.last_step = state_dict["step"]
        self._apply()

    def _apply(self) -> None:
        factor = self.factor
        for group in self.optimizer.param_groups:
            peak = float(group.setdefault("initial_lr", float(group["lr"])))
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(peak * factor)
            else:
                group["lr"] = peak * factor
