"""Safetensors files, read in pieces; their headers, checked and written.

The library's own reader maps files into memory, where every page that was touched counts as used
until the system wants it back; reading pieces into one buffer keeps what a merge takes small, and
known.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.merge.source import Entry

_MOST_HEADER = 100_000_000  # the format's own limit
_NAMES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
DTYPES = {dtype: name for name, dtype in _NAMES.items()}


class TensorFile:
    """A safetensors file whose header has been checked against the file.

    Args:
        path: of the file.

    Attributes:
        entries: shape and dtype of each tensor, in the order of the file.
        metadata: the header's strings.

    Raises:
        UsageError: there is no such file, or it is truncated, damaged or of another format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, Entry] = {}
        self.metadata: dict[str, str] = {}
        self._places: dict[str, int] = {}
        self._descriptor = -1
        try:
            with path.open("rb") as file:
                self._parse(file.read(8), file, os.fstat(file.fileno()).st_size)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror or error}") from None

    def read_into(self, name: str, start: int, stop: int, buffer: Tensor) -> Tensor:
        """Fill the buffer's begin with entries of a flattened tensor; return them as its view.

        Args:
            name: of the tensor.
            start: the first entry.
            stop: the one after the last.
            buffer: bytes, uint8, large enough.

        Raises:
            UsageError: the file could not be read.
        """
        entry = self.entries[name]
        width = entry.dtype.itemsize
        wanted = (stop - start) * width
        if self._descriptor < 0:
            self._descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        view = memoryview(buffer.numpy())[:wanted]  # type: ignore[arg-type]
        at, done = self._places[name] + start * width, 0
        while done < wanted:
            count = os.preadv(self._descriptor, [view[done:]], at + done)
            if count <= 0:
                raise UsageError(f"{self.path} has become shorter while it was read")
            done += count
        return buffer[:wanted].view(entry.dtype)

    def close(self) -> None:
        """Close the file; reading opens it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.close()

    def _parse(self, prefix: bytes, file: Any, size: int) -> None:
        if len(prefix) < 8:
            raise self._wrong("it is shorter than a header")
        length = int.from_bytes(prefix, "little")
        if length > min(_MOST_HEADER, size - 8):
            raise self._wrong(f"its header claims {length:,} bytes, the file has {size:,}")
        try:
            header = json.loads(file.read(length).decode(), object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise self._wrong(f"its header cannot be read: {error}") from None
        if not isinstance(header, dict):
            raise self._wrong("its header is no object")
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(x, str) for x in metadata.values()):
            raise self._wrong("its metadata is not strings by name")
        self.metadata = metadata
        spans = sorted((self._span(name, facts), name) for name, facts in header.items())
        at = 0
        for (begin, end), name in spans:
            if begin != at:
                raise self._wrong(f'"{name}" begins at byte {begin:,} of the data, not at {at:,}')
            entry = self._entry(name, header[name])
            if end - begin != entry.size * entry.dtype.itemsize:
                raise self._wrong(f'"{name}" has {end - begin:,} bytes, which is not its shape\'s')
            self.entries[name] = entry
            self._places[name] = 8 + length + begin
            at = end
        if 8 + length + at != size:
            raise self._wrong(f"it should have {8 + length + at:,} bytes and has {size:,}")

    def _span(self, name: str, facts: Any) -> tuple[int, int]:
        span = facts.get("data_offsets") if isinstance(facts, dict) else None
        if (
            not (isinstance(span, list) and len(span) == 2 and all(map(_is_count, span)))
            or span[0] > span[1]
        ):
            raise self._wrong(f'"{name}" has no offsets')
        return span[0], span[1]

    def _entry(self, name: str, facts: Mapping[str, Any]) -> Entry:
        shape, dtype = facts.get("shape"), facts.get("dtype")
        if not isinstance(shape, list) or not all(map(_is_count, shape)):
            raise self._wrong(f'"{name}" has no shape')
        if dtype not in _NAMES:
            raise self._wrong(f'"{name}" is of type {dtype!r}; known: {", ".join(_NAMES)}')
        return Entry(tuple(shape), _NAMES[dtype])

    def _wrong(self, what: str) -> UsageError:
        return UsageError(f"{self.path} is no file in safetensors, or damaged: {what}")


def header(entries: Mapping[str, Entry], metadata: Mapping[str, str]) -> bytes:
    """Return a file's header for tensors that follow in this order.

    Raises:
        UsageError: a dtype that the format does not have.
    """
    facts: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, entry in entries.items():
        if entry.dtype not in DTYPES:
            raise UsageError(f'"{name}" is {entry.dtype}, which safetensors files do not hold')
        end = at + entry.size * entry.dtype.itemsize
        facts[name] = {
            "dtype": DTYPES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [at, end],
        }
        at = end
    text = json.dumps(facts, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data are aligned
    return len(text).to_bytes(8, "little") + text


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _is_count(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool) and 0 <= x < 1 << 62
