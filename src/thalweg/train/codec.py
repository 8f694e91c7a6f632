"""Nested Python data to tensors plus JSON, and back, exactly.

None, booleans, numbers, strings, lists, tuples, dicts with any of these as keys, tensors and
NumPy scalars and arrays survive as what they were, NaN and infinities included. Nothing is
pickled.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thalweg.core.errors import UsageError


def encode(value: Any, tensors: dict[str, Tensor], path: str = "") -> Any:
    """Return the value as JSON data, its tensors left out and collected.

    Args:
        value: the nested data.
        tensors: collects contiguous CPU copies of the tensors, by the path to them.
        path: the name of the value, for the tensors' names and for messages.

    Raises:
        UsageError: something in it is of no known kind; the message says where.
    """
    if value is None or isinstance(value, (bool, str)) or type(value) is int:
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, Tensor):
        return {"tensor": _store(value, tensors, path)}
    if isinstance(value, np.ndarray):
        return {"array": _store(torch.from_numpy(value), tensors, path)}
    if isinstance(value, np.generic):
        return {"scalar": [encode(value.item(), tensors, path), value.dtype.str]}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if type(value) is list:
        return [encode(part, tensors, f"{path}/{i}") for i, part in enumerate(value)]
    if type(value) is tuple:
        return {"tuple": [encode(part, tensors, f"{path}/{i}") for i, part in enumerate(value)]}
    if isinstance(value, dict):
        items = value.items()
        return {
            "dict": [
                [encode(key, tensors, path), encode(part, tensors, f"{path}/{key}")]
                for key, part in items
            ]
        }
    raise UsageError(
        f'a checkpoint cannot hold "{path}", a {type(value).__name__}; it takes numbers, strings, '
        "lists, tuples, dicts and tensors"
    )


def decode(data: Any, tensors: dict[str, Tensor]) -> Any:
    """Return the value that `encode` turned into this data and these tensors."""
    if isinstance(data, list):
        return [decode(part, tensors) for part in data]
    if not isinstance(data, dict):
        return data
    ((kind, inside),) = data.items()
    if kind == "float":
        return float(inside)
    if kind == "tensor":
        return _restore(inside, tensors)
    if kind == "array":
        return _restore(inside, tensors).numpy()
    if kind == "scalar":
        return np.dtype(inside[1]).type(decode(inside[0], tensors))
    if kind == "dtype":
        return getattr(torch, inside)
    if kind == "tuple":
        return tuple(decode(part, tensors) for part in inside)
    return {decode(key, tensors): decode(part, tensors) for key, part in inside}


def _store(tensor: Tensor, tensors: dict[str, Tensor], path: str) -> list[Any]:
    # The order of strides is kept, since it decides in which order sums are taken later.
    order = sorted(range(tensor.ndim), key=lambda d: (-tensor.stride(d), d))
    name = path
    while name in tensors:
        name += "'"
    tensors[name] = tensor.detach().permute(order).to("cpu", copy=True).contiguous()
    return [name, order]


def _restore(stored: list[Any], tensors: dict[str, Tensor]) -> Tensor:
    name, order = stored
    back = sorted(range(len(order)), key=order.__getitem__)
    return tensors[name].permute(back)
