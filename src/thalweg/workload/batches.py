"""The order in which training sees its data: a pure function of the seed and the step."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from thalweg.core.errors import UsageError
from thalweg.core.seeds import derive_seed, generator
from thalweg.core.streams import GlobalStream
from thalweg.workload.batch import move, sample_count, split
from thalweg.workload.sources import Collate, Columns, Source, as_source

_END = object()


class Batches:
    """The training batches of a run; ``at(step)`` is the batch of that step.

    Epochs follow each other, each a fresh permutation of all samples from a generator seeded by
    (seed, epoch); the short rest of an epoch is dropped, unless the data are fewer than one
    batch, which then holds them all. So any step can be asked for at any time, and everyone who
    trains with the same seed sees the same batches. Random draws that a data set makes while it
    is read (augmentation; torch's, NumPy's and Python's global generators) are seeded by
    (seed, step) too, and leave the global generators alone.

    A ``DataLoader`` decides itself on batch size, order and its last batch; it is iterated again
    and again, every epoch under its own seeded random stream. It has no random access: to go to a
    later step, the batches before it are read and thrown away; to go back, its reading starts
    over. The same step gives the same batch if its workers (``num_workers > 0``) and its sampler
    draw only from torch's, NumPy's and Python's generators.

    Args:
        data: what `Workload.train` may be.
        batch_size: samples in a batch; a ``DataLoader`` has its own.
        seed: of the order.
        device: where batches are put.
        collate: joins samples of a map-style data set.

    Raises:
        UsageError: the data cannot be used, or the batch size is not a positive integer.
    """

    def __init__(
        self,
        data: Any,
        batch_size: int,
        seed: int = 0,
        device: str | torch.device = "cpu",
        collate: Collate | None = None,
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"batch_size counts samples, from 1; found {batch_size}")
        source = as_source(data, collate, "training data")
        self._device = torch.device(device)
        if isinstance(source, DataLoader):
            self._reader: _Shuffled | _Replayed = _Replayed(source, seed)
        else:
            self._reader = _Shuffled(source, batch_size, seed)

    def at(self, step: int) -> Any:
        """Return the batch of a step, counted from 0."""
        return move(self._reader.at(step), self._device)

    def share(self, step: int, rank: int, world: int) -> tuple[Any, float]:
        """Return one process's share of a step's batch, and which part of the samples it is.

        The shares of all processes are the batch of the step. Only the share is read, except from
        a ``DataLoader``, whose batches are read whole and cut. Random draws of a map-style data
        set differ from those of one process, and between processes.

        Args:
            step: from 0.
            rank: the process, from 0.
            world: how many there are; at most the samples of a batch.

        Raises:
            UsageError: a batch cannot be cut into so many shares.
        """
        part, share = self._reader.share(step, rank, world)
        return move(part, self._device), share


class _Shuffled:
    """Batches of a source with random access."""

    def __init__(self, source: Any, batch_size: int, seed: int) -> None:
        self._source = source
        self._seed = seed
        self._size = min(batch_size, len(source))
        self._steps = len(source) // self._size
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def at(self, step: int) -> Any:
        return self._read(step, slice(None), "read", step)

    def share(self, step: int, rank: int, world: int) -> tuple[Any, float]:
        start, end = self._size * rank // world, self._size * (rank + 1) // world
        if self._size < world:
            raise UsageError(f"a batch of {self._size} samples has no share for {world} processes")
        # One process alone draws as if there were no shares.
        stream = ("read", step) if world == 1 else ("read", step, "process", rank)
        return self._read(step, slice(start, end), *stream), (end - start) / self._size

    def _read(self, step: int, part: slice, *stream: str | int) -> Any:
        epoch, position = divmod(step, self._steps)
        if epoch != self._epoch:
            shuffle = generator(self._seed, "epoch", epoch)
            self._order = torch.randperm(len(self._source), generator=shuffle)
            self._epoch = epoch
        index = self._order[position * self._size : (position + 1) * self._size][part]
        if isinstance(self._source, Columns):
            return self._source.take(index)
        with GlobalStream(derive_seed(self._seed, *stream)):
            return self._source.take(index)


class _Replayed:
    """Batches of a data loader, read in order."""

    def __init__(self, loader: DataLoader, seed: int) -> None:
        self._loader = loader
        self._seed = seed
        self._start()

    def at(self, step: int) -> Any:
        if step < self._next:
            self._start()
        while self._next < step:
            self._read()
        return self._read()

    def share(self, step: int, rank: int, world: int) -> tuple[Any, float]:
        batch = self.at(step)
        count = sample_count(batch)
        parts = split(batch, world)
        if len(parts) < world:
            raise UsageError(f"a batch of {count} samples has no share for {world} processes")
        return parts[rank], (count * (rank + 1) // world - count * rank // world) / count

    def _start(self) -> None:
        self._next = 0
        self._epoch = -1
        self._iterator: Iterator[Any] = iter(())
        self._stream = GlobalStream(derive_seed(self._seed, "epoch", -1))

    def _read(self) -> Any:
        batch = self._draw()
        if batch is _END:
            self._next_epoch()
            batch = self._draw()
            if batch is _END:
                raise UsageError("training data: the DataLoader yields no batch")
        self._next += 1
        return batch

    def _next_epoch(self) -> None:
        self._epoch += 1
        self._stream = GlobalStream(derive_seed(self._seed, "epoch", self._epoch))
        if isinstance(self._loader.generator, torch.Generator):
            self._loader.generator.manual_seed(derive_seed(self._seed, "order", self._epoch))
        with self._stream:
            self._iterator = iter(self._loader)

    def _draw(self) -> Any:
        # The sampler draws when it is first read, augmentation at every batch.
        with self._stream:
            return next(self._iterator, _END)


def in_order(
    data: Any,
    batch_size: int,
    device: str | torch.device = "cpu",
    collate: Collate | None = None,
) -> Iterator[Any]:
    """Yield all samples once, in their order, the last batch short: for evaluation.

    Random draws of the data are the same every time and leave the global generators alone.
    """
    device = torch.device(device)
    source: Source = as_source(data, collate, "validation data")
    stream = GlobalStream(derive_seed(0, "in order"))
    if isinstance(source, DataLoader):
        if isinstance(source.generator, torch.Generator):
            source.generator.manual_seed(derive_seed(0, "in order"))
        with stream:
            iterator = iter(source)
        while True:
            with stream:
                batch = next(iterator, _END)
            if batch is _END:
                return
            yield move(batch, device)
    for start in range(0, len(source), batch_size):
        index = torch.arange(start, min(start + batch_size, len(source)))
        if isinstance(source, Columns):
            yield move(source.take(index), device)
        else:
            with stream:
                batch = source.take(index)
            yield move(batch, device)
