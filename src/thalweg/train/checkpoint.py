"""Checkpoints: a folder each, complete or absent; tensors in safetensors, the rest in JSON."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file, save_file

from thalweg._version import __version__
from thalweg.core.errors import UsageError
from thalweg.core.files import flush
from thalweg.train.codec import decode, encode

FORMAT = 1
_NAME = re.compile(r"step-(\d{10})")


class Checkpoints:
    """The checkpoints of one run in one folder, of which the newest is kept.

    A checkpoint is the folder ``step-NNNNNNNNNN`` with ``tensors.safetensors`` and ``state.json``.
    It is written under another name, flushed to the disk and renamed, so that one that is there
    is whole, whenever the process died.

    Args:
        folder: made with its parents if it is not there.
        identity: what a checkpoint must agree on to be continued: names and plain values.

    Raises:
        UsageError: the folder cannot be made or written to.
    """

    def __init__(self, folder: str | Path, identity: dict[str, Any]) -> None:
        self.folder = Path(folder)
        self._identity = identity
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = self.folder / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UsageError(
                f"cannot write checkpoints to {folder}: {error.strerror}; choose another folder"
            ) from None

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write a checkpoint, then remove those of earlier steps; return its folder.

        Raises:
            UsageError: the state holds something that cannot be saved.
        """
        tensors: dict[str, Any] = {}
        document = {
            "format": FORMAT,
            "thalweg": __version__,
            "identity": self._identity,
            "step": step,
            "state": encode(state, tensors),
        }
        final = self.path(step)
        temporary = self.folder / f".{final.name}-{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        save_file(tensors, temporary / "tensors.safetensors")
        text = json.dumps(document, allow_nan=False)
        (temporary / "state.json").write_text(text, encoding="utf-8")
        for file in temporary.iterdir():
            flush(file)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        flush(self.folder)
        self._remove_all_but(final)
        return final

    def path(self, step: int) -> Path:
        """Return the folder of a step's checkpoint."""
        return self.folder / f"step-{step:010d}"

    def load(self) -> dict[str, Any] | None:
        """Return the state of the newest checkpoint, or None if there is none.

        Raises:
            UsageError: it was made with other settings or by another version's format, or cannot
                be read.
        """
        found = sorted(path for path in self.folder.glob("step-*") if _NAME.fullmatch(path.name))
        if not found:
            return None
        path = found[-1]
        start_over = "use another folder, or delete this one to start over"
        try:
            document = json.loads((path / "state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot read the checkpoint {path}: {error}; {start_over}") from None
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            version = document.get("thalweg", "?") if isinstance(document, dict) else "?"
            raise UsageError(
                f"the checkpoint {path} is from Thalweg {version}, whose format this version "
                f"({__version__}) does not read; {start_over}"
            )
        self._check_identity(path, document["identity"], start_over)
        try:
            tensors = load_file(path / "tensors.safetensors")
            return decode(document["state"], tensors)
        except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
            raise UsageError(f"cannot read the checkpoint {path}: {error}; {start_over}") from None

    def clear(self) -> None:
        """Remove all checkpoints of the folder."""
        self._remove_all_but(None)

    def _remove_all_but(self, kept: Path | None) -> None:
        for path in self.folder.iterdir():
            name = path.name.removeprefix(".").partition("-")[0]
            if name == "step" and path != kept and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)

    def _check_identity(self, path: Path, saved: dict[str, Any], start_over: str) -> None:
        differing = [
            f"{key} was {saved.get(key)!r} and is {self._identity.get(key)!r}"
            for key in {**saved, **self._identity}
            if saved.get(key) != self._identity.get(key)
        ]
        if differing:
            raise UsageError(
                f"the checkpoint {path} was made with other settings: {'; '.join(differing)}. "
                f"Pass the same settings, {start_over}"
            )
