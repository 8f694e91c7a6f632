"""Results as files: numbers in npz, everything in it told beside it in JSON, nothing pickled."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from thalweg._version import __version__
from thalweg.core.errors import UsageError
from thalweg.core.files import make_folder, write_atomically

FORMAT = 1
_DOCUMENT = "document"
_KNOWN: dict[str, type[Saved]] = {}


class Saved:
    """Base of dataclasses that are results: `save` and `load`.

    A file is whole or absent: ``NAME.npz`` holds each run of numbers as an array, named by its
    path in the result (``losses``, ``also/test loss``), and a JSON document of all the rest, so
    it alone is enough to load; ``NAME.json`` is that document for people and other programs.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _KNOWN[cls.__name__] = cls

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the result to ``path`` and the JSON beside it; return the path.

        Args:
            path: ends in ``.npz``, which is added to a name without a suffix; its folder is made.

        Raises:
            UsageError: another suffix, or a folder that cannot be written to.
        """
        file = _npz(path)
        arrays: dict[str, np.ndarray] = {}
        document = {
            "format": FORMAT,
            "thalweg": __version__,
            "result": _encode(self, arrays, ""),
        }
        document["arrays"] = {name: list(array.shape) for name, array in arrays.items()}
        text = json.dumps(document, allow_nan=False, indent=1)
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **{_DOCUMENT: np.array(text)}, **arrays)
        make_folder(file.parent)
        write_atomically(file, content.getvalue())
        write_atomically(file.with_suffix(".json"), text + "\n")
        return file

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Return the result that was saved there, equal to the bit.

        Raises:
            UsageError: there is no such file, it is damaged, of another version's format, or
                holds a result of another kind.
        """
        found = load(path)
        if not isinstance(found, cls):
            raise UsageError(f"{path} holds a {type(found).__name__}, not a {cls.__name__}")
        return found


def load(path: str | os.PathLike[str]) -> Saved:
    """Return the result in a file, of whatever kind; see `Saved.load`."""
    file = _npz(path)
    try:
        with np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        document = json.loads(str(arrays.pop(_DOCUMENT)))
    except FileNotFoundError:
        raise UsageError(f"there is no result {file}") from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UsageError(f"{file} is no result that Thalweg saved, or damaged: {error}") from None
    if document.get("format") != FORMAT:
        raise UsageError(
            f"{file} is of Thalweg {document.get('thalweg', '?')}, whose format this version "
            f"({__version__}) does not read; compute it again"
        )
    return _decode(document["result"], arrays)


def _npz(path: str | os.PathLike[str]) -> Path:
    file = Path(path)
    file = file if file.suffix else file.with_suffix(".npz")
    if file.suffix != ".npz":
        raise UsageError(f"results are files in npz, found {file}; name it {file.stem}.npz")
    return file


def _encode(value: Any, arrays: dict[str, np.ndarray], path: str) -> Any:
    """Return the value as JSON data, its arrays left out and collected by their path."""
    inside = f"{path}/" if path else ""
    if isinstance(value, Saved):
        fields = [field.name for field in dataclasses.fields(value)]  # type: ignore[arg-type]
        parts = {name: _encode(getattr(value, name), arrays, inside + name) for name in fields}
        return {"kind": type(value).__name__, "fields": parts}
    if value is None or isinstance(value, (bool, str)) or type(value) is int:
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else {"float": repr(value)}
    if isinstance(value, Tensor):
        kept = value.detach().cpu().contiguous()
        # numpy has no bfloat16; float32 holds each of its numbers.
        arrays[path] = (kept.float() if kept.dtype == torch.bfloat16 else kept).numpy()
        return {"tensor": path, "dtype": str(value.dtype).removeprefix("torch.")}
    if isinstance(value, (tuple, list)):
        rows = _numbers(value)
        if rows is not None:
            arrays[path] = rows
            return {"numbers": path}
        return {"tuple": [_encode(one, arrays, f"{inside}{i}") for i, one in enumerate(value)]}
    if isinstance(value, Mapping):
        return {"dict": {key: _encode(one, arrays, inside + key) for key, one in value.items()}}
    raise TypeError(f"{path} is a {type(value).__name__}, which results do not hold")


def _numbers(value: Any) -> np.ndarray | None:
    """Return nested tuples of floats, all rows of one length, as an array; None for all else."""

    def depth(x: Any) -> int | None:
        if isinstance(x, float):
            return 0
        if not isinstance(x, (tuple, list)) or not x:
            return None
        below = {depth(one) for one in x}
        inner = below.pop()
        return None if below or inner is None else inner + 1

    if depth(value) is None:
        return None
    try:
        return np.array(value, dtype=np.float64)
    except ValueError:  # rows of different lengths
        return None


def _decode(data: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if not isinstance(data, dict):
        return data
    if "kind" in data:
        kind = _KNOWN[data["kind"]]
        return kind(**{name: _decode(one, arrays) for name, one in data["fields"].items()})
    if "float" in data:
        return float(data["float"])
    if "tensor" in data:
        array = arrays[data["tensor"]]
        return torch.from_numpy(array.copy()).to(getattr(torch, data["dtype"]))
    if "numbers" in data:
        return _tuples(arrays[data["numbers"]].tolist())
    if "tuple" in data:
        return tuple(_decode(one, arrays) for one in data["tuple"])
    return {key: _decode(one, arrays) for key, one in data["dict"].items()}


def _tuples(value: Any) -> Any:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value
