"""Torch checkpoints, read without running anything that they contain."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thalweg.core.errors import UsageError

_WITHIN = ("state_dict", "model_state_dict", "model", "weights")


def read_torch_file(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file that ``torch.save`` wrote, mapped into memory where possible.

    Read with ``weights_only=True``: a pickle that holds anything but tensors and plain values is
    refused. In a checkpoint of a whole run the weights are looked for under "state_dict",
    "model_state_dict", "model" and "weights".

    Raises:
        UsageError: there is no such file, it is damaged, refused, or holds no weights.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path} with weights")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about forms of pickles: read, or refused below
            found = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except pickle.UnpicklingError:
        raise UsageError(
            f"{path} is a pickle of more than tensors, which can run any code when it is read, so "
            "it is refused; save model.state_dict() where you trust it, best in safetensors"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, zipfile.BadZipFile) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{path} is no checkpoint of torch, or damaged: {reason}") from None
    return _weights(found, path)


def _weights(found: Any, path: Path) -> dict[str, Tensor]:
    for inside in (None, *_WITHIN):
        held = found if inside is None else found.get(inside)
        if isinstance(held, Mapping) and any(isinstance(x, Tensor) for x in held.values()):
            return {str(name): x for name, x in held.items() if isinstance(x, Tensor)}
        if not isinstance(found, Mapping):
            break
    keys = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
    raise UsageError(f"{path} holds no tensors by name; found {keys or 'nothing'}")
