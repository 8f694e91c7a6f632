"""Where the tensors that step together lie in memory: what a kernel is given."""

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from thalweg.engine import storage
from thalweg.engine.kernel import STORAGE

# Subclasses may keep their entries anywhere.
PLAIN = {Tensor, torch.nn.Parameter}

_is_contiguous = torch._C.TensorBase.is_contiguous
_address = torch._C.TensorBase.data_ptr
_length = torch._C.TensorBase.numel
dtype_of = operator.attrgetter("dtype")
_on_cpu = operator.attrgetter("is_cpu")

States = Sequence[dict[str, Any]]


class Places(NamedTuple):
    """The memory of tensors whose gradients, parameters and states have one dtype each.

    Attributes:
        names: of the state tensors.
        dtypes: of gradients, parameters and each of ``names``.
        columns: the parameters, then the state tensors by name (block-wise codes, then scales).
        lengths: entries by tensor.
        found: the addresses of ``columns``.
        addresses: (1 + columns, tensors), int64; the gradients' first.
        sizes: ``lengths`` as int64.
        entries: their sum.
    """

    names: tuple[str, ...]
    dtypes: tuple[torch.dtype, ...]
    columns: list[list[Tensor]]
    lengths: list[int]
    found: list[list[int]]
    addresses: np.ndarray
    sizes: np.ndarray
    entries: int


class PlacesCache:
    """The places of one list of tensors, kept from step to step.

    Asking a thousand tensors for everything costs more than their update. From step to step
    the gradients are new; all else is asked only whether it still is what, and where, it was.
    """

    def __init__(self) -> None:
        self._kept: Places | None = None
        self._looked = False
        self.now: Places | None = None

    def look(self, g: Sequence[Tensor], p: list[Tensor], states: States) -> Places | None:
        """Return the places if one kernel can take all tensors as they lie, else None.

        They hold for one step: `renew` begins the next.
        """
        if not self._looked:
            self._looked = True
            self.now = self._kept = self._again(g, p, states) or self._anew(g, p, states)
        return self.now

    def renew(self) -> None:
        """Forget the places of the step before."""
        self.now, self._looked = None, False

    def _again(self, g: Sequence[Tensor], p: list[Tensor], states: States) -> Places | None:
        kept = self._kept
        if kept is None or not all(map(_is_contiguous, g)) or not all(map(_is_contiguous, p)):
            return None
        columns = _columns(p, states, kept.names, kept.dtypes)
        if (
            not all(map(_same, columns, kept.columns))
            or list(map(_length, p)) != kept.lengths
            or [list(map(_address, column)) for column in columns] != kept.found
            or set(map(dtype_of, g)) != {kept.dtypes[0]}
        ):
            return None
        kept.addresses[0] = list(map(_address, g))
        return kept

    def _anew(self, g: Sequence[Tensor], p: list[Tensor], states: States) -> Places | None:
        names = state_names(states)
        if not (
            PLAIN.issuperset(map(type, p))
            and all(map(_on_cpu, p))
            and all(dtype in STORAGE for dtype in set(map(dtype_of, p)))
        ):
            return None
        columns = [g, p, *[[state[name] for state in states] for name in names]]
        if not all(all(map(_is_contiguous, column)) for column in columns):
            return None
        if any(len(set(map(dtype_of, column))) > 1 for column in columns):
            return None
        return places(g, p, states)


def state_names(states: States) -> tuple[str, ...]:
    """Return the names of the tensors in a state, scales of block-wise codes left out."""
    return tuple(
        name
        for name, x in states[0].items()
        if isinstance(x, Tensor) and not name.endswith(storage.SCALE)
    )


def places(g: Sequence[Tensor], p: list[Tensor], states: States) -> Places:
    """Return where tensors lie that have one dtype in each column."""
    names = state_names(states)
    dtypes = (g[0].dtype, p[0].dtype, *[states[0][name].dtype for name in names])
    columns = _columns(p, states, names, dtypes)
    found = [list(map(_address, column)) for column in columns]
    lengths = list(map(_length, p))
    addresses = np.array([list(map(_address, g)), *found], dtype=np.int64)
    sizes = np.array(lengths, dtype=np.int64)
    return Places(names, dtypes, columns, lengths, found, addresses, sizes, sum(lengths))


def _columns(
    p: list[Tensor], states: States, names: tuple[str, ...], dtypes: tuple[torch.dtype, ...]
) -> list[list[Tensor]]:
    columns = [p]
    for name, dtype in zip(names, dtypes[2:], strict=True):
        columns.append([state[name] for state in states])
        if dtype in storage.CODES:
            columns.append([state[name + storage.SCALE] for state in states])
    return columns


def _same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(map(operator.is_, one, other))
