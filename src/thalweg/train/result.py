"""What a training run leaves behind."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from thalweg.workload import Workload

Status = Literal["ok", "diverged", "failed"]


@dataclass(frozen=True)
class Point:
    """One evaluation on the way.

    Attributes:
        step: updates done.
        seconds: training time so far, evaluation excluded.
        train_loss: mean training loss of the steps since the last point; NaN or infinite where
            the run diverged.
        metric: the workload's metric on the validation data; NaN where it was not computed
            because the training loss had diverged.
    """

    step: int
    seconds: float
    train_loss: float
    metric: float


@dataclass(frozen=True)
class Result:
    """How a training run went.

    Attributes:
        status: ``ok``, ``diverged`` (loss or metric became NaN or infinite) or ``failed`` (an
            exception, if `fit` was asked to catch them).
        steps: updates done.
        seconds: training time: data, forward, backward, update. Evaluation, checkpoints and
            callbacks are not in it.
        cpu_seconds: processor time of the same parts, over all threads.
        steps_to_target: the first step of the evaluation grid where the target was reached, or
            None.
        seconds_to_target: the training time up to there, or None.
        best_metric: the best finite metric of the curve, or None.
        final_metric: the metric after the last step, or None if the run did not get there.
        seconds_per_step: median time of a step; without the first five if there are more than
            ten. None if there was no step.
        peak_bytes: peak memory of a training step (weights, gradients, optimiser state, averages,
            batch and activations; not the data set); None if it could not be measured, as where a
            step may read more than 256 batches.
        state_bytes: the optimiser's state and the averages, after the last step.
        curve: the evaluations, in order.
        hyper: the hyper-parameters by name.
        error: why the run diverged or failed, or None.
        weights: the evaluation weights and buffers by name, on the CPU, as in
            ``model.state_dict()``; empty unless the status is ``ok``.
    """

    status: Status
    steps: int
    seconds: float
    cpu_seconds: float
    steps_to_target: int | None
    seconds_to_target: float | None
    best_metric: float | None
    final_metric: float | None
    seconds_per_step: float | None
    peak_bytes: int | None
    state_bytes: int
    curve: list[Point]
    hyper: dict[str, Any]
    error: str | None = None
    weights: dict[str, Tensor] = field(default_factory=dict, repr=False)


def first_reached(
    curve: Sequence[Point], workload: Workload, target: float | None
) -> tuple[int | None, float | None]:
    """Return step and seconds of the first point that reaches the target; both None if none."""
    if target is not None:
        for point in curve:
            if workload.reached(point.metric, target):
                return point.step, point.seconds
    return None, None


def best(curve: Sequence[Point], workload: Workload) -> float | None:
    """Return the best finite metric, or None if there is none."""
    finite = [point.metric for point in curve if math.isfinite(point.metric)]
    return (max if workload.higher_is_better else min)(finite, default=None)


def median_step(seconds: Sequence[float]) -> float | None:
    """Return the median time of a step, without the first five if there are more than ten."""
    seconds = seconds[5:] if len(seconds) > 10 else seconds
    return statistics.median(seconds) if seconds else None
