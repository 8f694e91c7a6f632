"""What each of torch's operations does to the labels of axes.

An operation that is not known keeps the order of all units that it touches.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thalweg.merge.permutations import layers, sums, views
from thalweg.merge.permutations.handlers import HANDLERS, pointwise, tensors
from thalweg.merge.permutations.labels import Refused, expand, fix, fresh, size_of, touch
from thalweg.merge.permutations.trace import Labelled

_TABLES = (layers, sums, views)  # their rules register themselves


def follow(
    mode: Labelled, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: list[Tensor]
) -> None:
    """Label the outputs of an operation."""
    name = str(func).removeprefix("aten.").partition(".")[0]
    if name not in ("select", "unbind"):
        for x in tensors(args, kwargs):
            for label in mode.stacked.pop(id(x), ()):
                for unit in expand(label):
                    touch(unit)
    handler = HANDLERS.get(name)
    if handler is None and torch.Tag.pointwise in func.tags:
        handler = pointwise
    if handler is None:
        handler = _unknown
    try:
        handler(mode, name, args, kwargs, outputs)
    except Refused:
        _unknown(mode, name, args, kwargs, outputs)
    for x in outputs:
        mode.value(x)


def _unknown(
    mode: Labelled, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: list[Tensor]
) -> None:
    reason = f"the operation {name} is not one whose symmetries are known"
    for x in tensors(args, kwargs):
        for label in mode.labels(x):
            fix(label, reason)
    for x in outputs:
        fits = [size_of(label) for label in mode.labels(x)] == list(x.shape)
        if not fits or not any(x is given for given in tensors(args, kwargs)):
            mode.set(x, [fresh(size, reason) for size in x.shape])
