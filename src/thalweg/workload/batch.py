"""What can be done with a batch of any shape: move it, count its samples, cut it up."""

import copy
from collections.abc import Mapping, MutableMapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from thalweg.core.errors import UsageError


def move(batch: Any, device: torch.device) -> Any:
    """Return the batch on a device.

    Tensors, mappings, tuples, named tuples and lists of them, and anything with a ``to`` method
    (as the batches of Hugging Face tokenisers have) are moved; other things stay as they are.
    """
    if callable(getattr(batch, "to", None)):
        return batch.to(device)
    return _map(batch, lambda part: move(part, device))


def sample_count(batch: Any) -> int:
    """Return how many samples a batch holds: the length of its first tensor that has one.

    A batch without such a tensor counts as its own length, and as one sample if it has none.
    """
    first = _first_tensor(batch)
    if first is not None:
        return first.shape[0]
    return len(batch) if hasattr(batch, "__len__") else 1


def split(batch: Any, parts: int) -> list[Any]:
    """Cut a batch along its samples into near-equal micro-batches, at most ``parts`` of them.

    Tensors and lists as long as the batch are cut; everything else goes into each part whole. A
    batch with a method ``split_samples(parts)`` cuts itself.

    Raises:
        UsageError: nothing in the batch can be cut.
    """
    count = sample_count(batch)
    if _first_tensor(batch) is None:
        raise UsageError(
            "gradient accumulation cuts a batch along the first dimension of its tensors, and "
            f"found none in a batch of type {type(batch).__name__}; use accumulate=1"
        )
    parts = min(parts, count)
    own = getattr(batch, "split_samples", None)
    if own is not None:
        return own(parts)
    edges = [count * part // parts for part in range(parts + 1)]
    return [_cut(batch, start, end, count) for start, end in pairwise(edges)]


def _map(batch: Any, change: Any) -> Any:
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(change(part) for part in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(change(part) for part in batch)
    if isinstance(batch, MutableMapping):
        # A copy keeps the class, so that a tokeniser's batch stays readable by attribute.
        changed = copy.copy(batch)
        for key, part in batch.items():
            changed[key] = change(part)
        return changed
    if isinstance(batch, Mapping):
        return {key: change(part) for key, part in batch.items()}
    return batch


def _first_tensor(batch: Any) -> Tensor | None:
    if isinstance(batch, Tensor):
        return batch if batch.ndim else None
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    if isinstance(batch, (tuple, list)):
        for part in batch:
            found = _first_tensor(part)
            if found is not None:
                return found
    return None


def _cut(part: Any, start: int, end: int, count: int) -> Any:
    if isinstance(part, Tensor):
        return part[start:end] if part.ndim and part.shape[0] == count else part
    if isinstance(part, list) and len(part) == count and _first_tensor(part) is None:
        return part[start:end]
    return _map(part, lambda inner: _cut(inner, start, end, count))
