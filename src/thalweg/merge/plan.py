"""What is done with every tensor of a merge, decided and checked before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from thalweg.core.checks import check_choice
from thalweg.core.errors import UsageError
from thalweg.merge.method import Merge
from thalweg.merge.source import Entry, Source, has

Keys = Literal["same", "common", "all"]
How = Literal["merge", "mean", "whole"]

_STATISTICS = ("running_mean", "running_var")
_NAMED = 10


@dataclass(frozen=True)
class Job:
    """One tensor of the result.

    Attributes:
        name: of the tensor.
        shape: of the tensor.
        dtype: of the result.
        how: "merge" by the merge's formula; "mean", the plain mean (batch-norm statistics, and
            tensors that not all models have); "whole" for what is not a float, which is the same
            in all models or, if it is one number, the largest.
        models: the places of the models that have it.
        statistics: whether there are statistics about it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    how: How
    models: tuple[int, ...]
    statistics: bool = False

    @property
    def size(self) -> int:
        """Return the number of entries."""
        return torch.Size(self.shape).numel()


@dataclass(frozen=True)
class Plan:
    """A merge that can be carried out.

    Attributes:
        method: the merge.
        models: the sources.
        base: of the base model, if the merge needs one.
        statistics: sources of the models' statistics.
        base_statistics: of the base's.
        jobs: one for each tensor of the result.
        tied: names of the result whose tensor is that of another name.
        compute: the dtype that is computed in.
    """

    method: Merge
    models: tuple[Source, ...]
    base: Source | None
    statistics: tuple[Source, ...]
    base_statistics: Source | None
    jobs: tuple[Job, ...]
    tied: Mapping[str, str]
    compute: torch.dtype


def make_plan(
    method: Merge,
    models: Sequence[Source],
    base: Source | None = None,
    *,
    statistics: Sequence[Source] | None = None,
    base_statistics: Source | None = None,
    keys: Keys = "same",
    dtype: torch.dtype | None = None,
) -> Plan:
    """Check all inputs of a merge by their names, shapes and dtypes, and say what will be done.

    Args:
        method: the merge.
        models: at least one.
        base: the model that all were fine-tuned from; used by merges that need it.
        statistics: one source a model, for merges that need them.
        base_statistics: of the base.
        keys: "same" refuses models that do not have the same tensors, "common" leaves out those
            that one lacks, "all" keeps them, as the mean over the models that have them.
        dtype: of the result's floats; unless given that of the models, or what holds all of them.

    Raises:
        UsageError: something does not fit; up to ten tensors are named.
    """
    check_choice("keys", keys, get_args(Keys))
    method.check(len(models))
    name = type(method).__name__
    if method.needs_base and base is None:
        raise UsageError(f"{name} needs the base that the models were fine-tuned from; give it")
    base = base if method.needs_base else None
    if dtype is not None and not dtype.is_floating_point:
        raise UsageError(f"the dtype of the result must be a float, found {dtype}")
    everyone = [*models, *([base] if base else [])]
    names, implied = _names(everyone, len(models), keys)
    tied = _tied(everyone, names)
    jobs = []
    problems: list[str] = []
    low: set[str] = set()
    for tensor in names:
        if tensor in tied:
            continue
        found = [_entry(source, tensor, implied) for source in everyone]
        problem = _mismatch(tensor, everyone, found)
        if problem:
            problems.append(problem)
            continue
        present = [entry for entry in found[: len(models)] if entry]
        complete = len(present) == len(models) and all(found)
        jobs.append(_job(tensor, present, found, complete, dtype, method.complete))
        low |= {str(entry.dtype) for entry in present}
    _refuse(problems, "the models do not fit together")
    if not jobs:
        raise UsageError(f"{everyone[0].label} and the others have no tensor in common")
    compute = torch.float64 if "torch.float64" in low else torch.float32
    given = _statistics(method, models, statistics, base_statistics, jobs)
    jobs = [
        Job(j.name, j.shape, j.dtype, j.how, j.models, j.how == "merge" and j.name in given)
        for j in jobs
    ]
    return Plan(
        method,
        tuple(models),
        base,
        tuple(statistics or ()) if method.needs_statistics else (),
        base_statistics if method.needs_base_statistics else None,
        tuple(jobs),
        tied,
        compute,
    )


def _names(sources: Sequence[Source], models: int, keys: Keys) -> tuple[list[str], set[str]]:
    """Return the result's names, in the order of the first model that has each."""
    ordered = dict.fromkeys(name for source in sources[:models] for name in source.entries)
    missing: list[str] = []
    implied: set[str] = set()
    kept: list[str] = []
    extra = [n for s in sources[models:] for n in s.entries if n not in ordered]
    for name in ordered:
        lacking = [s for s in sources if not has(s, name)]
        if any(name not in s.entries and name in s.implied for s in sources):
            implied.add(name)
        if lacking and keys == "same":
            missing.append(f'"{name}" is missing in {", ".join(s.label for s in lacking)}')
        elif not lacking or keys == "all":
            kept.append(name)
    if keys == "same":
        missing += [f'"{n}" is in {sources[-1].label} alone, the base' for n in extra]
        _refuse(
            missing,
            'the models do not have the same tensors (keys: "common" leaves out what one lacks, '
            '"all" keeps it)',
        )
    return kept, implied


def _tied(sources: Sequence[Source], names: Sequence[str]) -> dict[str, str]:
    """Return the ties that hold in every source: only these can be written as ties."""
    first, *others = sources
    kept = set(names)
    return {
        name: target
        for name, target in first.tied.items()
        if {name, target} <= kept and all(s.tied.get(name) == target for s in others)
    }


def _entry(source: Source, name: str, implied: set[str]) -> Entry | None:
    entry = source.entries.get(name)
    if entry is None and name in implied and name in source.implied:
        entry = source.entries[source.implied[name]]
    return entry


def _mismatch(name: str, sources: Sequence[Source], found: Sequence[Entry | None]) -> str | None:
    known = [(source, entry) for source, entry in zip(sources, found, strict=True) if entry]
    one, first = known[0]
    for other, entry in known[1:]:
        if entry.shape != first.shape:
            return (
                f'"{name}" has the shape {_shape(first)} in {one.label} and {_shape(entry)} in '
                f"{other.label}"
            )
        if entry.dtype.is_floating_point != first.dtype.is_floating_point:
            return f'"{name}" is {first.dtype} in {one.label} and {entry.dtype} in {other.label}'
    if first.dtype.is_complex:
        return f'"{name}" is complex, which no merge here is defined for'
    return None


def _shape(entry: Entry) -> str:
    return "x".join(map(str, entry.shape)) or "of one number"


def _job(
    name: str,
    present: Sequence[Entry],
    found: Sequence[Entry | None],
    complete: bool,
    dtype: torch.dtype | None,
    statistics: bool,
) -> Job:
    entry = present[0]
    models = tuple(i for i, one in enumerate(found) if one)[: len(present)]
    own = entry.dtype
    for other in present[1:]:
        own = _wider(own, other.dtype)
    if not own.is_floating_point:
        return Job(name, entry.shape, own, "whole", models)
    plain = not complete or (name.rpartition(".")[2] in _STATISTICS and not statistics)
    return Job(name, entry.shape, dtype or own, "mean" if plain else "merge", models)


def _wider(one: torch.dtype, other: torch.dtype) -> torch.dtype:
    if one == other:
        return one
    floats = one.is_floating_point and other.is_floating_point
    if floats and 1 in (one.itemsize, other.itemsize):  # torch promotes no float of 8 bits
        return (
            max(one, other, key=lambda d: d.itemsize)
            if one.itemsize != other.itemsize
            else (torch.float32)
        )
    return torch.promote_types(one, other)


def _statistics(
    method: Merge,
    models: Sequence[Source],
    statistics: Sequence[Source] | None,
    base_statistics: Source | None,
    jobs: Sequence[Job],
) -> set[str]:
    """Check the statistics; return the names that they are about."""
    kind, name = method.needs_statistics, type(method).__name__
    if kind is None:
        return set()
    if not statistics or len(statistics) != len(models):
        raise UsageError(
            f"{name} needs one set of {kind} statistics for each of {len(models)} models, found "
            f"{len(statistics or ())}; thalweg.merge.{_MADE_BY[kind]} computes them"
        )
    if method.needs_base_statistics and base_statistics is None:
        raise UsageError(f"{name} needs the statistics of the base as well; give them")
    everyone = [*statistics]
    if method.needs_base_statistics and base_statistics is not None:
        everyone.append(base_statistics)
    about = {job.name: job for job in jobs if job.how == "merge"}
    problems = []
    for source in everyone:
        for tensor, entry in source.entries.items():
            if tensor not in about:
                problems.append(f'"{tensor}" in {source.label} is no tensor that is merged')
                continue
            if any(tensor not in other.entries for other in everyone):
                problems.append(f'"{tensor}" is in {source.label} and not in all the others')
            wanted = about[tensor].shape
            if kind == "gram":
                wanted = (wanted[-1], wanted[-1]) if len(wanted) == 2 else None
            if wanted is None:
                problems.append(f'"{tensor}" in {source.label} belongs to no linear layer')
            elif entry.shape != wanted:
                problems.append(
                    f'"{tensor}" in {source.label} has the shape {_shape(entry)}, not '
                    f"{'x'.join(map(str, wanted))}"
                )
    _refuse(problems, f"the {kind} statistics do not fit the models")
    return set(statistics[0].entries)


_MADE_BY = {"fisher": "fisher_diagonal", "gram": "input_grams"}


def _refuse(problems: Sequence[str], what: str) -> None:
    if problems:
        more = f"\n  and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        raise UsageError(f"{what}:\n  " + "\n  ".join(problems[:_NAMED]) + more)
