"""The settings of a run, checked before any work."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from thalweg.core.checks import check_choice, check_flag, check_number, check_whole
from thalweg.core.errors import UsageError
from thalweg.workload import Workload

PRECISIONS: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Settings:
    """What `fit` was asked to do, with every default filled in."""

    steps: int
    seed: int
    device: torch.device
    precision: str
    compile: bool
    accumulate: int
    evaluate_every: int
    checkpoint_every: int
    target: float | None
    threads: int | None

    def identity(self, workload: Workload, recipe: str) -> dict[str, Any]:
        """Return what a checkpoint must agree on to be continued with these settings."""
        file = workload.source_file
        return {
            "workload": workload.name,
            "task file": hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None,
            "recipe": recipe,
            "steps": self.steps,
            "seed": self.seed,
            "batch_size": workload.batch_size,
            "precision": self.precision,
            "compile": self.compile,
            "accumulate": self.accumulate,
            "evaluate_every": self.evaluate_every,
        }


def resolve(
    workload: Workload,
    *,
    steps: int | None,
    seed: int,
    device: str | torch.device | None,
    precision: str,
    compile: bool,
    accumulate: int,
    evaluate_every: int | None,
    checkpoint_every: int | None,
    target: float | None,
    threads: int | None,
) -> Settings:
    """Return the settings with the defaults of the workload and the machine filled in.

    Raises:
        UsageError: a value is impossible.
    """
    if not isinstance(workload, Workload):
        raise UsageError(
            f"expected a workload, found {type(workload).__name__}; "
            'load one with thalweg.workload.load("digits")'
        )
    steps = workload.steps if steps is None else steps
    check_whole("steps", steps, least=1)
    check_whole("seed", seed, least=0)
    check_choice("precision", precision, PRECISIONS)
    check_flag("compile", compile)
    check_whole("accumulate", accumulate, least=1)
    own_batches = isinstance(workload.train, DataLoader)  # their size is not known yet
    if workload.batch_size % accumulate and not own_batches:
        raise UsageError(
            f"accumulate={accumulate} does not cut batch_size={workload.batch_size} into equal "
            "micro-batches; choose a divisor of the batch size"
        )
    if evaluate_every is None:
        evaluate_every = workload.evaluate_every or max(1, steps // 20)
    check_whole("evaluate_every", evaluate_every, least=1)
    if checkpoint_every is None:
        checkpoint_every = evaluate_every
    check_whole("checkpoint_every", checkpoint_every, least=1)
    target = workload.target if target is None else target
    if target is not None:
        check_number("target", target, "(-inf, inf)")
    if threads is not None:
        check_whole("threads", threads, least=1)
    return Settings(
        steps=steps,
        seed=seed,
        device=chosen_device(device),
        precision=precision,
        compile=compile,
        accumulate=accumulate,
        evaluate_every=evaluate_every,
        checkpoint_every=checkpoint_every,
        target=target,
        threads=threads,
    )


def chosen_device(device: str | torch.device | None) -> torch.device:
    """Return the device, an accelerator unless given; raise UsageError if it cannot be used."""
    if device is None:
        found = torch.accelerator.is_available() and torch.accelerator.current_accelerator()
        return found or torch.device("cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(
            f'the device "{device}" cannot be used: {reason}; use "cpu", or leave it out'
        ) from None
    return chosen
