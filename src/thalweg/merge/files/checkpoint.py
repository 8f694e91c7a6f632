"""A model on disk, in whichever of the usual forms."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.merge.files.tensor_file import TensorFile
from thalweg.merge.files.torch_file import read_torch_file
from thalweg.merge.merging import Held
from thalweg.merge.source import Entry, Source

TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
ADAPTER = "adapter_config.json"
_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLES = ("model.safetensors", "pytorch_model.bin")
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")
_HEADS = ("lm_head.weight", "embed_out.weight")


class Checkpoint:
    """A model's tensors on disk, as a source; see `thalweg.merge.source.Source`.

    Use `open_checkpoint`. Tensors in safetensors are read in pieces into one buffer; those of
    torch checkpoints are mapped into memory.

    Attributes:
        label: the path.
        folder: the folder whose configuration and tokenizer belong to the model, if it is one.
        config: of ``config.json``, empty without one.
        entries: all tensors by name, in the order of the files.
        tied: names whose tensor is that of another name.
        implied: a head that is not in the files because the configuration ties it.
    """

    def __init__(
        self, path: Path, files: list[TensorFile | Held], names: Mapping[str, int] | None
    ) -> None:
        self.label = str(path)
        self.folder = path if path.is_dir() else None
        self.config = _json(path / "config.json") if self.folder else {}
        self.entries: dict[str, Entry] = {}
        self.tied: dict[str, str] = {}
        self.implied: dict[str, str] = {}
        self._files = files
        self._of: dict[str, int] = {}
        self._buffer = torch.empty(0, dtype=torch.uint8)
        for place, file in enumerate(files):
            for name, entry in file.entries.items():
                if names is not None and names.get(name, -1) != place:
                    continue
                if name in self._of:
                    raise UsageError(f'"{name}" is in two files of {path}')
                self.entries[name] = entry
                self._of[name] = place
            if isinstance(file, Held):
                self.tied |= file.tied
        for name in names or ():
            if name not in self._of:
                raise UsageError(
                    f'the index of {path} says that "{name}" is in a file that does not have it'
                )
        self._add_ties()

    def read(self, name: str, start: int, stop: int) -> Tensor:
        """Return entries of a flattened tensor; they change at the next read."""
        name = self.tied.get(name, name)
        file = self._files[self._of[name]]
        if isinstance(file, Held):
            return file.read(name, start, stop)
        wanted = (stop - start) * self.entries[name].dtype.itemsize
        if wanted > self._buffer.numel():
            self._buffer = torch.empty(wanted, dtype=torch.uint8)
        return file.read_into(name, start, stop, self._buffer)

    def close(self) -> None:
        """Close all files."""
        for file in self._files:
            if isinstance(file, TensorFile):
                file.close()

    def _add_ties(self) -> None:
        for file in self._files:
            if isinstance(file, TensorFile):
                # As safetensors.torch.save_model says which names it left out.
                for name, kept in file.metadata.items():
                    if name not in self.entries and kept in self.entries:
                        self.tied[name] = kept
                        self.entries[name] = self.entries[kept]
        if self.config.get("tie_word_embeddings"):
            found = [n for n in self.entries if n.endswith(_EMBEDDINGS)]
            if len(found) == 1:
                self.implied = {n: found[0] for n in _HEADS if n not in self.entries}


def open_checkpoint(path: str | Path, base: str | Path | None = None) -> Source:
    """Open a model on disk and check it, without reading weights.

    Args:
        path: a file in safetensors; a torch checkpoint; a folder in the Hugging Face form, with
            one file or shards and their index; or the folder of a LoRA adapter, which is merged
            into its base as it is read.
        base: the adapter's base; the folder that its configuration names unless given.

    Raises:
        UsageError: no model is there, or it is damaged, pickled code, or points outside of its
            folder.
    """
    path = Path(path)
    if path.is_dir():
        if (path / ADAPTER).exists():
            from thalweg.merge.files.lora import open_adapter

            return open_adapter(path, base)
        return _folder(path)
    if not path.exists():
        raise UsageError(f"there is no checkpoint {path}")
    return Checkpoint(path, [_file(path)], None)


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """Return all tensors of a model on disk, in memory.

    Raises:
        UsageError: as `open_checkpoint`.
    """
    source = open_checkpoint(path)
    return {
        name: source.read(name, 0, entry.size).clone().reshape(entry.shape)
        for name, entry in source.entries.items()
    }


def _folder(path: Path) -> Checkpoint:
    for name in _INDICES:
        if (path / name).exists():
            return _sharded(path, path / name)
    for name in _SINGLES:
        if (path / name).exists():
            return Checkpoint(path, [_file(path / name)], None)
    others = sorted(path.glob("*.safetensors"))
    if len(others) == 1:
        return Checkpoint(path, [_file(others[0])], None)
    found = f"{len(others)} files in safetensors and no index" if others else "none of them"
    raise UsageError(
        f"{path} is no model: it should hold {', '.join((*_SINGLES, *_INDICES))} or {ADAPTER}; "
        f"found {found}"
    )


def _sharded(path: Path, index: Path) -> Checkpoint:
    table = _json(index).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise UsageError(f"{index} has no weight_map; it is damaged")
    for shard in table.values():
        # Whoever wrote the index must not choose which of our files are read.
        if not isinstance(shard, str) or Path(shard).name != shard or shard in ("", ".", ".."):
            raise UsageError(f"{index} points outside of its folder: {shard!r}; it is refused")
    shards = sorted(set(table.values()))
    places = {shard: place for place, shard in enumerate(shards)}
    files = [_file(path / shard) for shard in shards]
    return Checkpoint(path, files, {name: places[shard] for name, shard in table.items()})


def _file(path: Path) -> TensorFile | Held:
    if path.suffix.lower() in TORCH_SUFFIXES:
        return Held(str(path), read_torch_file(path))
    return TensorFile(path)


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path} should hold an object, found {type(found).__name__}")
    return found
