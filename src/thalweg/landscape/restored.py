"""A model's weights, buffers and modes, put back after whatever is done with them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def restored(module: nn.Module) -> Iterator[None]:
    """Put weights, buffers and training flags back bit for bit afterwards, also after an error.

    Buffers that the model does not save are caches: one that forward replaces stays replaced.
    """
    modes = {one: one.training for one in module.modules()}
    # `.data` keeps the version counters, so a graph that the caller still holds stays usable.
    tensors = [t.data for t in [*module.parameters(), *module.buffers()]]
    copies = [tensor.clone() for tensor in tensors]
    buffers = [(one, name, x) for one in modes for name, x in _saved(one).items()]
    try:
        yield
    finally:
        for one, mode in modes.items():
            one.training = mode
        for one, name, buffer in buffers:
            one._buffers[name] = buffer
        with torch.no_grad():
            for tensor, copy in zip(tensors, copies, strict=True):
                tensor.copy_(copy)


@contextmanager
def dense_gradients(module: nn.Module) -> Iterator[None]:
    """Have sparse embeddings give dense gradients, which vectors are made of."""
    sparse = [one for one in module.modules() if getattr(one, "sparse", False) is True]
    try:
        for one in sparse:
            one.sparse = False  # type: ignore[assignment]
        yield
    finally:
        for one in sparse:
            one.sparse = True  # type: ignore[assignment]


def _saved(module: nn.Module) -> dict[str, Tensor | None]:
    caches = module._non_persistent_buffers_set
    return {name: x for name, x in module._buffers.items() if name not in caches}
