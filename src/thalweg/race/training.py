"""One run of a race trained to its end, wherever that happens."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from thalweg import train
from thalweg.core.errors import UsageError
from thalweg.core.files import write_atomically
from thalweg.race.plan import Planned
from thalweg.race.pruning import Pruner
from thalweg.race.rows import CurvePoint
from thalweg.workload import Workload

CHECKPOINT_SECONDS = 60.0

Fit = Callable[..., train.Result]

_MEASURED = (
    "status",
    "steps",
    "best_metric",
    "final_metric",
    "seconds_per_step",
    "peak_bytes",
    "state_bytes",
    "error",
    "seconds",
)


@dataclass(frozen=True)
class Trained:
    """What training a run gave.

    Attributes:
        outcome: the fields of `thalweg.race.rows.RunRow` that were measured.
        curve: the evaluations.
        weights: the evaluation weights; empty unless the run is a final one that went well.
    """

    outcome: dict[str, Any]
    curve: list[CurvePoint]
    weights: dict[str, Tensor]


def train_run(
    workload: Workload,
    config: Mapping[str, Any],
    run: Planned,
    folder: Path | None,
    seconds: float | None,
    callbacks: Sequence[train.Callback],
    fit: Fit = train.fit,
) -> Trained:
    """Train a run; an exception in it is an outcome with the status ``failed``.

    A run with a bar that falls behind it is ``pruned``.

    Args:
        workload: what is trained.
        config: the race's settings, as `Store.config` has them.
        run: the run.
        folder: for its checkpoints; a run continues from what it finds there. None for none.
        seconds: what the run will take, if that is known; one of less than a minute writes no
            checkpoint, unless there is one already.
        callbacks: listen.
        fit: trains; as `thalweg.train.fit`.
    """
    pruner = Pruner(run.bar, workload.higher_is_better)
    wall, processor = time.perf_counter(), time.process_time()
    outcome: dict[str, Any]
    curve: list[CurvePoint] = []
    weights: dict[str, Tensor] = {}
    try:
        result = _from_checkpoint(workload, config, run, folder, seconds, (*callbacks, pruner), fit)
    except Exception as error:
        outcome = {"status": "failed", "steps": 0, "error": f"{type(error).__name__}: {error}"}
    else:
        outcome = {name: getattr(result, name) for name in _MEASURED}
        if pruner.reason is not None:
            outcome |= {"status": "pruned", "error": pruner.reason}
        curve = result.curve
        weights = result.weights if run.phase == "final" else {}
    outcome["wall_seconds"] = time.perf_counter() - wall
    outcome["cpu_seconds"] = time.process_time() - processor
    return Trained(outcome, curve, weights)


def save_weights(weights: Mapping[str, Tensor], file: Path) -> None:
    """Write weights as safetensors, whole or not at all; nothing if there are none."""
    if weights:
        file.parent.mkdir(exist_ok=True)
        plain = {name: tensor.contiguous() for name, tensor in weights.items()}
        write_atomically(file, safetensors.torch.save(plain))


def _from_checkpoint(
    workload: Workload,
    config: Mapping[str, Any],
    run: Planned,
    folder: Path | None,
    seconds: float | None,
    callbacks: Sequence[train.Callback],
    fit: Fit,
) -> train.Result:
    every = None  # before anything was measured: at every evaluation
    if seconds is not None:
        every = max(1, math.floor(config["steps"] * CHECKPOINT_SECONDS / max(seconds, 1e-9)))
    interrupted = folder is not None and folder.exists()
    # A run of less than a minute starts over, unless an earlier process thought otherwise.
    short = seconds is not None and seconds < CHECKPOINT_SECONDS and not interrupted

    def once(folder: Path | None) -> train.Result:
        return fit(
            workload,
            run.recipe,
            steps=config["steps"],
            seed=run.seed,
            device=config["device"],
            precision=config["precision"],
            evaluate_every=config["evaluate_every"],
            callbacks=tuple(callbacks),
            checkpoint=folder,
            checkpoint_every=every,
            threads=config["threads"],
            catch=True,
        )

    try:
        return once(None if short else folder)
    except UsageError:
        if folder is None or not interrupted:
            raise
        # The checkpoint of an earlier process cannot be used; the run can start over.
        shutil.rmtree(folder)
        return once(folder)
