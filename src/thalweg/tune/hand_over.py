"""Weights handed from one training run to another, which goes on with other settings."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from torch import Tensor

from thalweg.core.seeds import derive_seed
from thalweg.core.streams import GlobalStream
from thalweg.recipe import Recipe
from thalweg.train.algorithm import build
from thalweg.train.checkpoint import Checkpoints
from thalweg.train.settings import Settings
from thalweg.workload import Workload
from thalweg.workload.check import new_model


def hand_over(
    source: Path,
    target: Path,
    workload: Workload,
    recipes: tuple[Recipe, Recipe],
    settings: Settings,
) -> None:
    """Write a checkpoint that goes on from another one's weights with another recipe.

    Weights, buffers, the optimiser's state, the average and the step are the source's, bit for
    bit; what the two recipes set differently (the learning rate, say) is as the new recipe has it.

    Args:
        source: a folder with a checkpoint.
        target: the folder of the new one, which must not exist; it is whole or absent.
        workload: what is trained.
        recipes: the recipe of the source and the new one, which differ in settings only.
        settings: those of both runs.

    Raises:
        UsageError: the source holds no such checkpoint.
    """
    old, new = recipes
    state = Checkpoints(source, settings.identity(workload, str(old))).load()
    if state is None:
        raise FileNotFoundError(f"no checkpoint in {source}")
    if str(old) != str(new):
        with GlobalStream(derive_seed(settings.seed, "model"), settings.device):
            model = new_model(workload).to(settings.device)
            fresh = build(new, model, settings.steps).optimizer.state_dict()
        before, after = old.hyper(), new.hyper()
        changed = {key.partition(".")[2] for key in after if before.get(key) != after[key]}
        if "lr" in changed:
            changed.add("initial_lr")  # the peak that the schedule's factor applies to
        state["optimizer"] = renewed(state["optimizer"], fresh, changed)
    temporary = target.with_name(f".{target.name}-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        identity = settings.identity(workload, str(new))
        Checkpoints(temporary, identity).save(state["step"], state)
        temporary.rename(target)
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary)


def renewed(saved: Any, fresh: Any, names: Collection[str]) -> Any:
    """Return a saved state of an optimiser in which some settings are those of a fresh one.

    Settings are found by name wherever both have them, in groups and in what wrappers keep;
    the state of parameters is left as it was saved.
    """
    if isinstance(saved, dict) and isinstance(fresh, dict):
        return {
            key: value
            if key == "state" or key not in fresh
            else fresh[key]
            if key in names and not isinstance(value, dict | Tensor)
            else renewed(value, fresh[key], names)
            for key, value in saved.items()
        }
    if isinstance(saved, list) and isinstance(fresh, list) and len(saved) == len(fresh):
        return [renewed(one, other, names) for one, other in zip(saved, fresh, strict=True)]
    return saved
