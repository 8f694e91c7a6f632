"""A checkpoint that is written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import torch
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.core.files import check_folder, flush, locked, make_folder
from thalweg.merge.files.tensor_file import header
from thalweg.merge.source import Entry

SUMS = "SHA256SUMS"
_IN_FLIGHT = 64 << 20
_FLUSH = 256 << 20
_SLACK = 1 << 20


@dataclass(frozen=True)
class Shard:
    """A file of the output: its name, and its tensors in their order."""

    name: str
    entries: Mapping[str, Entry]

    @property
    def size(self) -> int:
        """Return the bytes of all tensors."""
        return sum(_bytes(entry) for entry in self.entries.values())


def split(entries: Mapping[str, Entry], most: int) -> list[Shard]:
    """Return shards of at most so many bytes, or of one larger tensor; named as is usual.

    Within a shard wider dtypes come first, so that all tensors are aligned.
    """
    groups: list[dict[str, Entry]] = [{}]
    size = 0
    for name, entry in entries.items():
        if groups[-1] and size + _bytes(entry) > most:
            groups.append({})
            size = 0
        groups[-1][name] = entry
        size += _bytes(entry)
    count = len(groups)
    return [
        Shard(
            "model.safetensors" if count == 1 else f"model-{i:05d}-of-{count:05d}.safetensors",
            dict(sorted(group.items(), key=lambda item: -item[1].dtype.itemsize)),
        )
        for i, group in enumerate(groups, 1)
    ]


def check_output(out: Path, inputs: Sequence[Path], size: int) -> None:
    """Check, without creating anything, that a folder can be written.

    Raises:
        UsageError: it is there already and not empty, lies within an input, cannot be written to,
            or the disk has not that many bytes.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UsageError(f"cannot write to {out}: it is a file or a link; choose a new folder")
    if out.is_dir() and any(out.iterdir()):
        raise UsageError(f"{out} is there already and not empty; choose a new folder")
    place = out.resolve()
    for path in inputs:
        if path.is_dir() and place.is_relative_to(path.resolve()):
            raise UsageError(f"{out} lies within the input {path}; choose a folder outside of it")
    check_folder(out)
    check_folder(place.parent)
    nearest = next(folder for folder in (place, *place.parents) if folder.exists())
    free = shutil.disk_usage(nearest).free
    if free < size + _SLACK:
        raise UsageError(
            f"the result has {size / 1e9:.2f} GB and the disk of {out} has {free / 1e9:.2f} GB "
            "left; make room or choose another disk"
        )


class Output:
    """A folder in the making, under a hidden name beside it until it is complete.

    Use as a context manager: pieces of tensors are written in the order of the shards; on the way
    out the folder appears under its name, whole and on the disk, or after an error not at all. What
    a killed process left is removed by the next one that writes there.

    Args:
        out: the folder.
        shards: what will be written.
        metadata: strings for every shard's header.
        files: further files by name, as their bytes, or as paths to copy.
    """

    def __init__(
        self,
        out: Path,
        shards: Sequence[Shard],
        metadata: Mapping[str, str],
        files: Mapping[str, bytes | Path],
    ) -> None:
        self.sums: dict[str, str] = {}
        self._out, self._shards, self._metadata, self._files = out, shards, metadata, files
        self._partial = out.parent / f".{out.name}.partial"
        self._exit = contextlib.ExitStack()
        self._place = -1
        self._file: IO[bytes] | None = None
        self._hash = hashlib.sha256()
        self._left = 0
        self._unflushed = 0
        self._pending: deque[tuple[int, list[Future[Any]]]] = deque()
        self._in_flight = 0

    def __enter__(self) -> Self:
        with _disk(self._out):
            above = self._out.resolve().parents
            self._made = [folder for folder in above if not folder.exists()]
            make_folder(self._partial)
            self._exit.enter_context(
                locked(self._partial / ".lock", f"another process is writing {self._out} just now")
            )
            for left in self._partial.iterdir():
                if left.name != ".lock":
                    left.unlink()
        self._hasher = self._exit.enter_context(ThreadPoolExecutor(1))
        self._writer = self._exit.enter_context(ThreadPoolExecutor(1))
        return self

    def write(self, piece: Tensor) -> None:
        """Append a flat piece; it must not change afterwards.

        Raises:
            UsageError: the disk is full, or another reason not to write.
        """
        if not piece.numel():
            return
        data = memoryview(piece.detach().cpu().contiguous().view(torch.uint8).numpy())  # type: ignore
        with _disk(self._out):
            while not self._left:
                self._next()
            self._push(data)
            self._left -= len(data)

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                with _disk(self._out):
                    self._complete()
        except BaseException:
            self._remove()
            raise
        if kind is not None:
            self._remove()

    def _next(self) -> None:
        self._finish()
        self._place += 1
        shard = self._shards[self._place]
        self._file = (self._partial / shard.name).open("wb", buffering=0)
        self._hash = hashlib.sha256()
        self._left = shard.size
        self._push(memoryview(header(shard.entries, self._metadata)))

    def _push(self, data: memoryview) -> None:
        """Hash and write in threads of their own, with a bounded amount waiting."""
        assert self._file is not None
        jobs = [
            self._hasher.submit(self._hash.update, data),
            self._writer.submit(self._write, self._file, data),
        ]
        self._pending.append((len(data), jobs))
        self._in_flight += len(data)
        while self._in_flight > _IN_FLIGHT and len(self._pending) > 1:
            self._settle()

    def _write(self, file: IO[bytes], data: memoryview) -> None:
        done = 0
        while done < len(data):
            done += file.write(data[done:]) or 0
        self._unflushed += len(data)
        if self._unflushed >= _FLUSH:  # the disk works while the next pieces are computed
            os.fsync(file.fileno())
            self._unflushed = 0

    def _settle(self) -> None:
        size, jobs = self._pending.popleft()
        self._in_flight -= size
        for job in jobs:
            job.result()

    def _finish(self) -> None:
        """Complete the present shard."""
        if self._file is None:
            return
        while self._pending:
            self._settle()
        os.fsync(self._file.fileno())
        self._file.close()
        self.sums[self._shards[self._place].name] = self._hash.hexdigest()
        self._file = None

    def _complete(self) -> None:
        while self._place + 1 < len(self._shards):
            self._next()
        self._finish()
        files = dict(self._files)
        if len(self._shards) > 1:
            files["model.safetensors.index.json"] = _index(self._shards)
        for name, content in sorted(files.items()):
            data = content.read_bytes() if isinstance(content, Path) else content
            (self._partial / name).write_bytes(data)
            flush(self._partial / name)
            self.sums[name] = hashlib.sha256(data).hexdigest()
        lines = [f"{digest}  {name}\n" for name, digest in sorted(self.sums.items())]
        (self._partial / SUMS).write_text("".join(lines))
        flush(self._partial / SUMS)
        flush(self._partial)
        os.rename(self._partial, self._out)  # also onto an empty folder
        self._exit.close()
        (self._out / ".lock").unlink(missing_ok=True)
        flush(self._out.parent)

    def _remove(self) -> None:
        with contextlib.suppress(Exception):
            while self._pending:
                with contextlib.suppress(Exception):
                    self._settle()
            if self._file is not None:
                self._file.close()
        self._exit.close()
        shutil.rmtree(self._partial, ignore_errors=True)
        for folder in self._made:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def _disk(out: Path) -> Any:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full"
        elif error.errno == errno.EFBIG:
            reason = "the system's limit on the size of a file was reached"
        raise UsageError(f"cannot write {out}: {reason}; nothing was left there") from error


def _index(shards: Sequence[Shard]) -> bytes:
    table = {name: shard.name for shard in shards for name in shard.entries}
    index = {
        "metadata": {"total_size": sum(shard.size for shard in shards)},
        "weight_map": dict(sorted(table.items())),
    }
    return (json.dumps(index, indent=2) + "\n").encode()


def _bytes(entry: Entry) -> int:
    return entry.size * entry.dtype.itemsize
