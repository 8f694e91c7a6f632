"""What one run of a race leaves behind: a row, and a curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from thalweg.train.result import Point as CurvePoint

__all__ = ["COLUMNS", "TIME_COLUMNS", "CurvePoint", "Phase", "RunRow", "Status", "best_trial"]

Phase = Literal["target", "tune", "final"]
Status = Literal["ok", "diverged", "failed", "pruned"]

COLUMNS = (
    "entrant",
    "recipe",
    "phase",
    "trial",
    "seed",
    "status",
    "steps",
    "steps_to_target",
    "seconds_to_target",
    "best_metric",
    "final_metric",
    "seconds_per_step",
    "peak_bytes",
    "state_bytes",
)
"""The columns of `results.csv`, in order; each is a field of `RunRow`."""

TIME_COLUMNS = ("seconds_to_target", "seconds_per_step")
"""The columns that two runs of the same command need not share."""


@dataclass(frozen=True)
class RunRow:
    """One finished run.

    Attributes:
        run_id: unique in its race, usable as a file name, such as ``tune-02-003`` (third entrant,
            fourth trial) or ``final-02-001`` (third entrant, second seed).
        entrant: the entrant's name.
        recipe: the recipe with every tuned value filled in: what this very run used.
        phase: ``tune`` (a trial), ``final`` (the best trial under a fresh seed) or ``target`` (a
            trial of the hidden baseline that sets the target; not in `results.csv`).
        trial: the trial, from 0; a final run names the trial that it repeats.
        seed: the seed of the run; ``fit(workload, recipe, steps=..., seed=seed)`` repeats it.
        status: ``ok``, ``diverged`` (loss or metric became NaN or infinite), ``failed`` (an
            exception; see ``error``) or ``pruned`` (given up; see `thalweg.race.pruning`).
        steps: updates done; fewer than planned after a divergence or when the run was given up, 0
            if it never started.
        steps_to_target: first step of the evaluation grid at which the target was met, or None.
        seconds_to_target: training seconds up to there, or None.
        best_metric: best metric on the evaluation grid, or None if nothing was evaluated.
        final_metric: metric after the last step, or None if the run did not get there.
        seconds_per_step: median training seconds of a step, or None.
        peak_bytes: peak memory of a training step in bytes, or None.
        state_bytes: size of the optimiser's state in bytes, or None.
        hyper: the tuned values by ``slug.parameter``.
        position: where each tuned value lies in its space, as ``u`` of [0, 1).
        error: why a run failed, diverged or was given up, else None.
        seconds: training seconds in all, or None.
        wall_seconds: wall time of the whole run, evaluation included, or None.
        cpu_seconds: processor time of the whole run over all threads, or None.
        load: the machine's one-minute load average when the run ended, or None.
        worker: the worker that did it, a key of the machine's ``workers``; None if the race's own
            process did.
    """

    run_id: str
    entrant: str
    recipe: str
    phase: Phase
    trial: int
    seed: int
    status: Status
    steps: int
    steps_to_target: int | None = None
    seconds_to_target: float | None = None
    best_metric: float | None = None
    final_metric: float | None = None
    seconds_per_step: float | None = None
    peak_bytes: int | None = None
    state_bytes: int | None = None
    hyper: dict[str, Any] = field(default_factory=dict)
    position: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    seconds: float | None = None
    wall_seconds: float | None = None
    cpu_seconds: float | None = None
    load: float | None = None
    worker: str | None = None

    @property
    def finished(self) -> bool:
        """Return whether the run got to its end with a finite metric."""
        return (
            self.status == "ok"
            and self.final_metric is not None
            and math.isfinite(self.final_metric)
        )


def best_trial(rows: Sequence[RunRow], higher_is_better: bool) -> RunRow | None:
    """Return the best trial: best *final* metric, the earlier trial where two are equal.

    The final metric and not the best along the way, because a final run is judged by its end as
    well and because the best of many noisy evaluations rewards the noise. A trial that diverged,
    failed or was given up never wins; None if all did.
    """
    finished = [row for row in rows if row.finished]
    sign = -1.0 if higher_is_better else 1.0
    return min(
        finished, key=lambda row: (sign * float(row.final_metric or 0), row.trial), default=None
    )
