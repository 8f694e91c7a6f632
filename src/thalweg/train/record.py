"""What a run has measured of itself so far."""

from collections.abc import Sequence
from typing import Any

import torch

from thalweg.train.result import Point


class Record:
    """Steps, times, losses and evaluations of a run; what its checkpoints hold of them.

    Attributes:
        step: updates done.
        seconds: training time so far.
        cpu_seconds: processor time of the same parts, over all threads.
        step_seconds: the time of each step.
        peak_bytes: peak memory of a step, once it is measured.
        curve: the evaluations so far.
    """

    def __init__(self) -> None:
        self.step = 0
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.step_seconds: list[float] = []
        self.peak_bytes: int | None = None
        self.curve: list[Point] = []
        self._loss_sum, self._loss_count = 0.0, 0

    def add_step(self, loss: float, seconds: float, cpu_seconds: float) -> None:
        """Count a step."""
        self.step += 1
        self.seconds += seconds
        self.cpu_seconds += cpu_seconds
        self.step_seconds.append(seconds)
        self._loss_sum += loss
        self._loss_count += 1

    def add_point(self, metric: float, train_loss: float | None = None) -> Point:
        """Add an evaluation after the steps so far, and return it.

        Args:
            metric: what was found.
            train_loss: the mean of the losses since the last point unless given.
        """
        loss = self._loss_sum / self._loss_count if train_loss is None else train_loss
        point = Point(self.step, self.seconds, loss, metric)
        self.curve.append(point)
        self._loss_sum, self._loss_count = 0.0, 0
        return point

    def state_dict(self) -> dict[str, Any]:
        """Return all that the record goes on from."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "step_seconds": torch.tensor(self.step_seconds, dtype=torch.float64),
            "loss": (self._loss_sum, self._loss_count),
            "peak_bytes": self.peak_bytes,
            "curve": tuples(self.curve),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; other keys are passed by."""
        self.step = state["step"]
        self.seconds = state["seconds"]
        self.cpu_seconds = state["cpu_seconds"]
        self.step_seconds = state["step_seconds"].tolist()
        self._loss_sum, self._loss_count = state["loss"]
        self.peak_bytes = state["peak_bytes"]
        self.curve = [Point(*point) for point in state["curve"]]


def tuples(curve: Sequence[Point]) -> list[tuple[int, float, float, float]]:
    """Return points as what checkpoints can hold; ``Point(*one)`` brings one back."""
    return [(p.step, p.seconds, p.train_loss, p.metric) for p in curve]
