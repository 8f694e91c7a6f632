"""Where the tensors of a merge come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Entry:
    """A tensor's shape and dtype."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """Return the number of entries."""
        return torch.Size(self.shape).numel()


class Source(Protocol):
    """Where one model's tensors are read from.

    Attributes:
        label: what messages call it.
        entries: all tensors by name.
        tied: names whose tensor is that of another name.
        implied: the same for names that are not in ``entries`` but follow from the architecture.
    """

    @property
    def label(self) -> str: ...  # noqa: D102
    @property
    def entries(self) -> Mapping[str, Entry]: ...  # noqa: D102
    @property
    def tied(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def implied(self) -> Mapping[str, str]: ...  # noqa: D102

    def read(self, name: str, start: int, stop: int) -> Tensor:
        """Return entries of the flattened tensor; they may change at the next read."""
        ...


def has(source: Source, name: str) -> bool:
    """Return whether a source holds a tensor, or one that is tied to it."""
    return name in source.entries or name in source.implied


def resolve(source: Source, name: str) -> str:
    """Return the name under which a source holds a tensor."""
    if name in source.entries:
        return name
    return source.implied[name]
