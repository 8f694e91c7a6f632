"""Merging models that are on disk, whatever their size."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from thalweg._version import __version__
from thalweg.core.errors import UsageError
from thalweg.merge.catalogue import named
from thalweg.merge.engine import Progress, carry_out
from thalweg.merge.files.checkpoint import load_weights, open_checkpoint
from thalweg.merge.files.output import Output, check_output, split
from thalweg.merge.merging import Held, chosen
from thalweg.merge.method import Evidence, Merge, Score, Weights
from thalweg.merge.plan import Job, Keys, Plan, make_plan
from thalweg.merge.source import Entry, Source, has, resolve

if TYPE_CHECKING:
    from thalweg.landscape import Objective

RECORD = "merge.json"
_LOOKS, _LOOK = 16, 1 << 16  # tensors and entries of each that are compared with the base's
_CARRIED = (
    "config.json",
    "generation_config.json",
    "tokenizer*.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "spiece.model",
    "sentencepiece*.model",
    "*.tiktoken",
    "chat_template*",
    "preprocessor_config.json",
    "processor_config.json",
)


@dataclass(frozen=True)
class Merged:
    """What a merge wrote.

    Attributes:
        out: the folder.
        files: the SHA-256 sum of each file in it, by name.
        tensors: how many tensors it holds.
        size: their bytes.
        seconds: how long it took.
        method: the merge that was carried out, after it chose by data if it does.
        notes: what the user should know.
    """

    out: Path
    files: dict[str, str]
    tensors: int
    size: int
    seconds: float
    method: Merge
    notes: tuple[str, ...]


def merge_files(
    method: str | Merge,
    models: Sequence[str | Path],
    base: str | Path | None = None,
    *,
    out: str | Path,
    statistics: Sequence[str | Path | Weights] | None = None,
    base_statistics: str | Path | Weights | None = None,
    score: Score | None = None,
    objective: Objective | None = None,
    keys: Keys = "same",
    dtype: torch.dtype | None = None,
    shard_size: int = 5_000_000_000,
    finish: Callable[[dict[str, Tensor]], Mapping[str, Tensor]] | None = None,
    progress: Progress | None = None,
) -> Merged:
    """Merge checkpoints into a new folder, tensor by tensor.

    Models may be files in safetensors, torch checkpoints, folders in the Hugging Face form (one
    file or shards) or LoRA adapters; see `thalweg.merge.files.open_checkpoint`. All headers are
    checked before any work. Memory holds some pieces of each model, or one tensor of each for
    merges that read whole tensors (RegMean); merges that choose by data load all models.

    The folder holds safetensors (in shards above ``shard_size``), the configuration and tokenizer
    of the base, or else of the first model that has them, ``merge.json`` with what was merged and
    how, and ``SHA256SUMS``. It is written under a hidden name and moved into place at the end.

    Args:
        method: a merge, or its name with settings.
        models: paths.
        base: path of the base, for merges that need it and for adapters.
        out: the folder, new or empty.
        statistics: files in safetensors or tensors by name, one a model, for merges that need
            them.
        base_statistics: the same for the base.
        score: of weights on held-out data, for merges that choose by it.
        objective: the held-out loss, for merges that choose by it.
        keys: "same", "common" or "all"; see `thalweg.merge.plan.make_plan`.
        dtype: of the result's floats; that of the models unless given.
        shard_size: bytes of a file at most, unless one tensor has more.
        finish: given the whole result, in memory then, and returns what is written in its place,
            such as the same with batch-norm statistics of its own.
        progress: told how many of how many entries are done.

    Raises:
        UsageError: something about the input or the output does not serve, or the disk is full;
            the inputs are untouched and the output is absent.
    """
    begin = time.monotonic()
    method, out = named(method), Path(out)
    if not models:
        raise UsageError("there is nothing to merge; name checkpoints")
    if isinstance(shard_size, bool) or not isinstance(shard_size, int) or shard_size < 1:
        raise UsageError(f"shard_size must be a number of bytes, found {shard_size!r}")
    sources = [open_checkpoint(path, base) for path in models]
    held_base = None if base is None else open_checkpoint(base)
    _check_kinds([*sources, *([held_base] if held_base else [])])
    inputs = [Path(path) for path in (*models, *([base] if base is not None else []))]
    if method.chooses:
        make_plan(named("model-soups"), sources, keys=keys)
        check_output(out, inputs, 0)
        evidence = Evidence(score, objective)
        method = chosen(method, [load_weights(path) for path in models], evidence)
    plan = make_plan(
        method,
        sources,
        held_base,
        statistics=None if statistics is None else [_statistics(x) for x in statistics],
        base_statistics=None if base_statistics is None else _statistics(base_statistics),
        keys=keys,
        dtype=dtype,
    )
    shards = split({job.name: Entry(job.shape, job.dtype) for job in plan.jobs}, shard_size)
    plan = _in_order(plan, [name for shard in shards for name in shard.entries])
    folder = _folder_of([held_base, *sources])
    carried = _carried(folder, plan)
    size = sum(shard.size for shard in shards)
    extra = sum(x.stat().st_size if isinstance(x, Path) else len(x) for x in carried.values())
    check_output(out, inputs, size + extra)
    carried[RECORD] = _record(plan, [str(path) for path in models], base, keys)
    metadata = {"format": "pt", **plan.tied}
    pieces: Iterable[Tensor] = (piece for _, _, piece in carry_out(plan, progress))
    if finish is not None:
        pieces = _finished(plan, pieces, finish)
    with Output(out, shards, metadata, carried) as output:
        for piece in pieces:
            output.write(piece)
    return Merged(
        out,
        output.sums,
        len(plan.jobs),
        size,
        time.monotonic() - begin,
        method,
        tuple(_notes(plan, folder)),
    )


def _finished(
    plan: Plan,
    pieces: Iterable[Tensor],
    finish: Callable[[dict[str, Tensor]], Mapping[str, Tensor]],
) -> list[Tensor]:
    """Return what is written instead of a result, flat tensors in the order of the jobs."""
    given = iter(pieces)
    weights: dict[str, Tensor] = {}
    for job in plan.jobs:
        parts, left = [next(given)], job.size
        while (left := left - parts[-1].numel()) > 0:
            parts.append(next(given))
        weights[job.name] = torch.cat(parts).reshape(job.shape)
    next(given, None)  # the merge ends, and gives torch its threads back
    found = finish(weights | {name: weights[same] for name, same in plan.tied.items()})
    return [found[job.name].detach().to(job.dtype).reshape(-1) for job in plan.jobs]


def _statistics(given: str | Path | Weights) -> Source:
    if isinstance(given, Mapping):
        return Held("the statistics", given)
    return open_checkpoint(given)


def _check_kinds(sources: Sequence[Source]) -> None:
    """Raise UsageError if configurations name other architectures."""
    kinds: dict[str, str] = {}
    for source in sources:
        config = getattr(source, "config", {})
        found = config.get("model_type") or config.get("architectures")
        if found:
            kinds.setdefault(json.dumps(found), source.label)
    if len(kinds) > 1:
        listed = "; ".join(f"{label}: {kind}" for kind, label in kinds.items())
        raise UsageError(f"the models are of different architectures: {listed}")


def _in_order(plan: Plan, names: Sequence[str]) -> Plan:
    jobs = {job.name: job for job in plan.jobs}
    return dataclasses.replace(plan, jobs=tuple(jobs[name] for name in names))


def _folder_of(sources: Iterable[Source | None]) -> Path | None:
    for source in sources:
        folder = getattr(source, "folder", None)
        if folder is not None and (folder / "config.json").exists():
            return folder
    return None


def _carried(folder: Path | None, plan: Plan) -> dict[str, bytes | Path]:
    """Return the files that belong to the model; the configuration names the result's dtype."""
    if folder is None:
        return {}
    found: dict[str, bytes | Path] = {
        path.name: path
        for pattern in _CARRIED
        for path in sorted(folder.glob(pattern))
        if path.is_file()
    }
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    key = next((key for key in ("dtype", "torch_dtype") if key in config), None)
    dtypes = list({_short(job.dtype) for job in plan.jobs if job.dtype.is_floating_point})
    if key and len(dtypes) == 1 and dtypes != [config[key]]:
        config[key] = dtypes[0]
        found["config.json"] = (json.dumps(config, indent=2) + "\n").encode()
    return found


def _record(plan: Plan, models: Sequence[str], base: str | Path | None, keys: Keys) -> bytes:
    record = {
        "thalweg": __version__,
        "merge": type(plan.method).__name__,
        "settings": _settings(plan.method),
        "models": list(models),
        "base": None if base is None else str(base),
        "keys": keys,
        "tensors": {
            how: sum(job.how == how for job in plan.jobs) for how in ("merge", "mean", "whole")
        },
    }
    return (json.dumps(record, indent=2, default=str) + "\n").encode()


def _settings(method: Merge) -> dict[str, Any]:
    return {
        field.name: getattr(method, field.name)
        for field in dataclasses.fields(method)
        if field.init and not callable(getattr(method, field.name))
    }


def _notes(plan: Plan, folder: Path | None) -> Iterable[str]:
    everyone = len(plan.models)
    partly = [job.name for job in plan.jobs if len(job.models) < everyone]
    if partly:
        yield (
            f"not in all models, so the mean over those that have them is kept: {_listed(partly)}"
        )
    if plan.base is not None:
        yield from _strangers(plan, plan.base)
        new = [
            job.name
            for job in plan.jobs
            if job.how == "mean" and len(job.models) == everyone and not has(plan.base, job.name)
        ]
        if new:
            yield f"not in the base, so their mean is kept: {_listed(new)}"
    if any(job.name.endswith("running_mean") and job.how == "mean" for job in plan.jobs):
        yield "batch-norm statistics are means; recompute them on training data"
    mixed = [job for job in plan.jobs if len(_dtypes(plan, job)) > 1]
    if mixed:
        yield (
            f"not of one dtype in all models, {_short(mixed[0].dtype)} in the result: "
            f"{_listed([job.name for job in mixed])}"
        )
    if folder is None:
        yield "no model is a folder with a config.json, so none was carried along"


def _strangers(plan: Plan, base: Source) -> Iterable[str]:
    """Say which models lie farther from the base than it is long, by some entries of each."""
    merged = sorted((job for job in plan.jobs if job.how == "merge"), key=lambda job: -job.size)
    for model in plan.models:
        moved = length = 0.0
        for job in merged[:_LOOKS]:
            size = min(job.size, _LOOK)
            origin = base.read(resolve(base, job.name), 0, size).double()
            found = model.read(resolve(model, job.name), 0, size).double()
            moved += (found - origin).square().sum().item()
            length += origin.square().sum().item()
        if moved >= length > 0:
            yield (
                f"{model.label} is {math.sqrt(moved / length):.2f} times as far from the base as "
                "the base is from zero; was it fine-tuned from it?"
            )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _dtypes(plan: Plan, job: Job) -> set[torch.dtype]:
    sources = [plan.models[place] for place in job.models]
    return {source.entries[resolve(source, job.name)].dtype for source in sources}


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
