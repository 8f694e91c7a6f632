"""Where samples come from: columns of tensors, a map-style data set, or a data loader."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, default_collate

from thalweg.core.errors import UsageError

Collate = Callable[[list[Any]], Any]


class Columns:
    """Tensors that share their first dimension, which counts the samples; indexed at once."""

    def __init__(self, columns: list[Tensor], rebuild: Callable[[list[Tensor]], Any]) -> None:
        self._columns = columns
        self._rebuild = rebuild

    def __len__(self) -> int:
        return self._columns[0].shape[0]

    def take(self, index: Tensor) -> Any:
        """Return the batch of the samples with these numbers (int64, 1-D)."""
        return self._rebuild(
            [column.index_select(0, index.to(column.device)) for column in self._columns]
        )


class Items:
    """A map-style data set whose samples are collated into batches."""

    def __init__(self, items: Any, collate: Collate) -> None:
        self._items = items
        self._collate = collate

    def __len__(self) -> int:
        return len(self._items)

    def take(self, index: Tensor) -> Any:
        """Return the collated batch of the samples with these numbers (int64, 1-D)."""
        numbers = index.tolist()
        many = getattr(self._items, "__getitems__", None)
        samples = many(numbers) if many is not None else [self._items[i] for i in numbers]
        return self._collate(samples)


Source = Columns | Items | DataLoader


def as_source(data: Any, collate: Collate | None = None, what: str = "data") -> Source:
    """Return the source that reads ``data``.

    Args:
        data: a tensor or NumPy array, a tuple or dict of them with one length, a map-style data
            set (anything with ``len`` and ``[i]``; a list is one), or a ``DataLoader``.
        collate: joins samples of a map-style data set; torch's ``default_collate`` if not given.
        what: how messages call the data.

    Raises:
        UsageError: the data are empty, of lengths that differ, or of a kind that is not known.
    """
    if isinstance(data, DataLoader):
        if not isinstance(data.dataset, IterableDataset):
            _not_empty(len(data), what)
        return data
    if isinstance(data, TensorDataset):
        data = data.tensors
    if isinstance(data, (Tensor, np.ndarray)):
        return _columns({0: data}, lambda columns: columns[0], what)
    if isinstance(data, tuple) and data and all(_is_array(part) for part in data):
        return _columns(dict(enumerate(data)), tuple, what)
    if isinstance(data, Mapping) and data and all(_is_array(part) for part in data.values()):
        keys = list(data)
        return _columns(data, lambda columns: dict(zip(keys, columns, strict=True)), what)
    known = hasattr(data, "__len__") and hasattr(data, "__getitem__")
    if not known or isinstance(data, (tuple, Mapping, str, bytes, IterableDataset)):
        raise UsageError(
            f"{what}: found {_describe(data)}; give a tensor, a tuple or dict of tensors (or "
            "NumPy arrays) with one length, a map-style data set, or a DataLoader"
        )
    _not_empty(len(data), what)
    return Items(data, collate or default_collate)


def _columns(parts: Mapping[Any, Any], rebuild: Callable[..., Any], what: str) -> Columns:
    columns = []
    for key, part in parts.items():
        column = part if isinstance(part, Tensor) else torch.from_numpy(np.ascontiguousarray(part))
        if column.ndim == 0:
            raise UsageError(
                f"{what}: the tensor {key!r} has no dimension; the first one counts the samples"
            )
        columns.append(column)
    lengths = {str(key): len(column) for key, column in zip(parts, columns, strict=True)}
    if len(set(lengths.values())) > 1:
        raise UsageError(f"{what}: the tensors differ in length (samples come first): {lengths}")
    _not_empty(len(columns[0]), what)
    return Columns(columns, rebuild)


def _is_array(part: Any) -> bool:
    return isinstance(part, (Tensor, np.ndarray))


def _not_empty(count: int, what: str) -> None:
    if count == 0:
        raise UsageError(f"{what}: found no sample; give at least one")


def _describe(data: Any) -> str:
    if isinstance(data, tuple):
        return "a tuple of " + (", ".join(type(part).__name__ for part in data) or "nothing")
    if isinstance(data, Mapping):
        inside = ", ".join(f"{key!r}: {type(part).__name__}" for key, part in data.items())
        return f"a mapping of {inside or 'nothing'}"
    return f"an object of type {type(data).__name__}"
