"""Batches in the form in which a model evaluates them fastest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

PIECE = 8 * 2**20
"""Bytes of the largest output of a layer from which on a batch is evaluated in pieces.

Larger ones leave the processor's cache, and the system hands out their memory anew each time.
"""


@dataclass
class Outputs:
    """How large the outputs of a model's layers are.

    Attributes:
        largest: bytes of the largest one.
    """

    largest: int = 0

    @contextmanager
    def watching(self, module: nn.Module) -> Iterator[None]:
        """Look at the outputs of all calls."""
        hooks = [one.register_forward_hook(self._look) for one in module.modules()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _look(self, module: nn.Module, args: Any, out: Any) -> None:
        sizes = [x.nbytes for x in tree_leaves(out) if isinstance(x, Tensor)]
        self.largest = max(self.largest, *sizes, 0)


def arranged(
    module: nn.Module, batches: Sequence[Any], sizes: Sequence[int], largest: int
) -> tuple[list[Any], list[int]] | None:
    """Return the batches in pieces and with channels last, and the samples of each.

    For a loss that is a mean over samples, the mean over pieces weighted by samples is the same up
    to rounding. On a CPU convolutions run up to twice as fast where an image's channels lie next
    to each other.

    Args:
        module: the model.
        batches: of samples that do not depend on each other.
        sizes: their numbers of samples.
        largest: bytes of the largest output of a layer for any of the batches.

    Returns:
        None where nothing would be gained.
    """
    leaves = [x for batch in batches for x in tree_leaves(batch) if isinstance(x, Tensor)]
    if not leaves or any(x.device.type != "cpu" for x in leaves):
        return None
    images = any(isinstance(one, nn.Conv2d) for one in module.modules()) and any(
        _is_image(x) for x in leaves
    )
    count = max(1, math.ceil(largest / PIECE))
    if count == 1 and not images:
        return None
    found: list[tuple[Any, int]] = []
    for batch, size in zip(batches, sizes, strict=True):
        # Of the number that the largest batch has, as many as its share of samples.
        parts = min(size, math.ceil(count * size / max(sizes)))
        found += _pieces(batch, size, parts, images)
    return [piece for piece, _ in found], [size for _, size in found]


def _pieces(batch: Any, size: int, count: int, images: bool) -> Iterator[tuple[Any, int]]:
    leaves, form = tree_flatten(batch)
    lengths = [size // count + (k < size % count) for k in range(count)]
    columns = [
        x.split(lengths) if isinstance(x, Tensor) and x.ndim and len(x) == size else None
        for x in leaves
    ]
    if not any(columns):
        yield batch, size
        return
    for k, length in enumerate(lengths):
        parts = [x if c is None else c[k] for x, c in zip(leaves, columns, strict=True)]
        yield tree_unflatten([_laid(x) if images else x for x in parts], form), length


def _laid(x: Any) -> Any:
    """Return images with channels last; also of one channel, where strides do not show which."""
    if not _is_image(x):
        return x
    _, channels, height, width = x.shape
    strides = (channels * height * width, 1, width * channels, channels)
    return torch.empty_strided(x.shape, strides, dtype=x.dtype).copy_(x)


def _is_image(x: Any) -> bool:
    return isinstance(x, Tensor) and x.ndim == 4 and x.is_floating_point()
