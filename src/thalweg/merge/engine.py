"""Carrying out a plan, piece by piece, whatever the size of the models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.core.threads import use_threads
from thalweg.merge.dare import BLOCK
from thalweg.merge.method import Measure, Merge, Piece, mean
from thalweg.merge.plan import Job, Plan
from thalweg.merge.source import Source, resolve

CHUNK = BLOCK
"""Entries of a piece: few enough for the cache, many enough that calls cost nothing, and that the
threads which hash and write what is done seldom wait for Python."""

Progress = Callable[[int, int], None]
"""Told how many of how many entries are done, measuring passes included."""


def carry_out(plan: Plan, progress: Progress | None = None) -> Iterator[tuple[Job, int, Tensor]]:
    """Give the result's tensors in the plan's order, each as flat pieces in theirs.

    Nothing is kept: memory holds a piece of every model, or a tensor of every model for merges
    that read whole tensors.

    Args:
        plan: what to do.
        progress: told the progress.

    Raises:
        UsageError: an entry is not finite, or the result does not fit its dtype; the tensor is
            named.
    """
    # Operations on pieces are too short to be shared among threads.
    with torch.no_grad(), use_threads(1 if plan.method.reads == "element" else None):
        yield from _Run(plan, progress).results()


def pieces(plan: Plan, job: Job) -> Iterator[Piece]:
    """Give all pieces of one tensor, of all models.

    Raises:
        UsageError: an entry is not finite.
    """
    return _Run(plan, None).pieces(job)


class _Run:
    def __init__(self, plan: Plan, progress: Progress | None) -> None:
        self._plan, self._progress = plan, progress
        self._method = plan.method
        self._merged = [job for job in plan.jobs if job.how == "merge" and job.size]
        self._is_global = self._method.scope == "global"
        passes = getattr(self._method.measure(len(plan.models)), "passes", 0)
        self._total = sum(job.size for job in plan.jobs)
        self._total += passes * sum(job.size for job in self._merged)
        self._done = 0
        self._checked: set[str] = set()  # names whose entries are known to be finite

    def results(self) -> Iterator[tuple[Job, int, Tensor]]:
        shared = self._measured(self._method, self._merged) if self._is_global else None
        for job in self._plan.jobs:
            if not job.size:
                results = iter([(0, torch.empty(0, dtype=job.dtype))])
            elif job.how == "merge":
                results = self._merge(job, shared)
            elif job.how == "mean":
                results = self._mean(job)
            else:
                results = iter([(0, _whole(job, self._plan))])
            for start, result in results:
                self._tell(result.numel())
                yield job, start, result

    def _tell(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total)

    def _measured(
        self, method: Merge, jobs: list[Job], kept: list[Piece] | None = None
    ) -> Measure | None:
        measure = method.measure(len(self._plan.models))
        if measure is None:
            return None
        only_statistics = method.measures == "statistics"
        turn, size = 0, sum(job.size for job in jobs)
        while turn < (passes := measure.passes):
            for job in jobs:
                for piece in kept or self.pieces(job, only_statistics, measure, turn):
                    measure.add(turn, piece)
                self._tell(job.size)
            measure.end(turn)
            self._total += (measure.passes - passes) * size
            turn += 1
        return measure

    def _merge(self, job: Job, shared: Measure | None) -> Iterator[tuple[int, Tensor]]:
        ranges = self._ranges(job)
        # A tensor of one piece is read once, however often it is gone through.
        kept = list(self.pieces(job)) if len(ranges) == 1 else None
        method = self._method.of(job.name)
        measured = shared if self._is_global else self._measured(method, [job], kept)
        for piece in kept or self.pieces(job):
            yield piece.start, _fitted(job, method.combine(piece, measured))

    def _mean(self, job: Job) -> Iterator[tuple[int, Tensor]]:
        weights = self._method.plain_weights()
        if weights is not None:
            own = [weights[i] for i in job.models]
            weights = tuple(own) if sum(own) else None
        for start, stop in _cut(job.size, CHUNK):
            found = [self._read(self._plan.models[i], job, start, stop) for i in job.models]
            yield start, _fitted(job, mean(found, weights))

    def _ranges(self, job: Job) -> list[tuple[int, int]]:
        return _cut(job.size, CHUNK if self._method.reads == "element" else job.size)

    def pieces(
        self,
        job: Job,
        only_statistics: bool = False,
        measure: Measure | None = None,
        turn: int = 0,
    ) -> Iterator[Piece]:
        """Give all pieces of a tensor, or those parts of them that a measure reads."""
        plan = self._plan
        whole = self._method.reads == "tensor"
        check = job.name not in self._checked
        complete = not only_statistics
        for start, end in self._ranges(job):
            size = end - start
            stop = start + (size if measure is None else measure.part(turn, size))
            complete &= stop == end
            models: list[Tensor] = []
            base = None
            if not only_statistics:
                models = [self._read(s, job, start, stop, check) for s in plan.models]
                if plan.base is not None:
                    base = self._read(plan.base, job, start, stop, check)
                if whole:
                    models = [x.reshape(job.shape) for x in models]
                    base = None if base is None else base.reshape(job.shape)
            statistics: list[Tensor] = []
            base_statistics = None
            if job.statistics:
                statistics = [self._statistic(s, job, start, stop) for s in plan.statistics]
                if plan.base_statistics is not None:
                    base_statistics = self._statistic(plan.base_statistics, job, start, stop)
            yield Piece(
                job.name,
                job.shape,
                start,
                tuple(models),
                size,
                base,
                tuple(statistics),
                base_statistics,
            )
        if complete:
            self._checked.add(job.name)

    def _read(self, source: Source, job: Job, start: int, stop: int, check: bool = True) -> Tensor:
        raw = source.read(resolve(source, job.name), start, stop)
        x = raw.to(self._plan.compute)
        # A sum of finite numbers may overflow, one of others cannot be finite.
        if check and not math.isfinite(x.sum().item()):
            _check_finite(x, source, job.name)
        return x

    def _statistic(self, source: Source, job: Job, start: int, stop: int) -> Tensor:
        entry = source.entries[job.name]
        if self._method.needs_statistics == "gram":
            x = source.read(job.name, 0, entry.size).to(torch.float64).reshape(entry.shape)
        else:
            x = source.read(job.name, start, stop).to(self._plan.compute)
        low = _check_finite(x, source, job.name)
        if self._method.needs_statistics == "fisher" and low < 0:
            raise UsageError(f'"{job.name}" in {source.label} is negative; a Fisher is not')
        return x


def _cut(size: int, chunk: int) -> list[tuple[int, int]]:
    return [(at, min(at + chunk, size)) for at in range(0, size, chunk)]


def _check_finite(x: Tensor, source: Source, name: str) -> float:
    """Return the least entry; raise UsageError if one is not finite."""
    low, high = (bound.item() for bound in torch.aminmax(x))
    if not (low > float("-inf") and high < float("inf")):  # also false for NaN
        what = "NaN" if bool(x.isnan().any()) else "infinite"
        raise UsageError(
            f'"{name}" in {source.label} has entries that are {what}; no merge of it makes sense'
        )
    return low


def _fitted(job: Job, result: Tensor) -> Tensor:
    """Return the result flat and in its dtype."""
    flat = result.flatten()
    low, high = (bound.item() for bound in torch.aminmax(flat))
    most = torch.finfo(job.dtype).max
    if not -most <= low <= high <= most:
        raise UsageError(
            f'the merged "{job.name}" has entries up to {max(abs(low), abs(high)):.4g}, which '
            f"{str(job.dtype).removeprefix('torch.')} does not hold; choose another dtype"
        )
    return flat.to(job.dtype)


def _whole(job: Job, plan: Plan) -> Tensor:
    """Return what is not a float: the same in all models, or the largest of single numbers."""
    found = []
    for place in job.models:
        source = plan.models[place]
        found.append(source.read(resolve(source, job.name), 0, job.size).to(job.dtype).clone())
    if plan.method.whole == "last":
        return found[-1]
    first = found[0]
    if all(torch.equal(first, x) for x in found[1:]):
        return first
    if job.size == 1:
        return max(found, key=Tensor.item)
    labels = " and ".join(plan.models[i].label for i in job.models[:2])
    raise UsageError(
        f'"{job.name}" is {str(job.dtype).removeprefix("torch.")} and not the same in all models '
        f"({labels}, ...): whole numbers cannot be merged. Dequantise quantised weights first"
    )
