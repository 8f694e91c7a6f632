"""Sums over axes, and operations along one: what they do to labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from thalweg.merge.permutations.handlers import handles, pointwise
from thalweg.merge.permutations.labels import (
    Refused,
    fix,
    fresh,
)
from thalweg.merge.permutations.trace import Labelled


@handles(
    "sum", "mean", "amax", "amin", "var", "std", "var_mean", "std_mean", "prod", "any", "all",
    "logsumexp", "linalg_vector_norm", "norm", "max", "min",
)  # fmt: skip
def _reduce(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    x = args[0]
    if len(args) > 1 and isinstance(args[1], Tensor):
        pointwise(mode, name, args, kwargs, outputs)  # max(a, b)
        return
    labels = mode.labels(x)
    place = 2 if name in ("linalg_vector_norm", "norm") else 1
    axes = args[place] if len(args) > place else kwargs.get("dim")
    if not isinstance(axes, (int, list, tuple, type(None))) or isinstance(axes, bool):
        raise Refused
    axes = [axes] if isinstance(axes, int) else axes
    gone = {axis % max(x.ndim, 1) for axis in axes} if axes else set(range(x.ndim))
    if name in ("max", "min") and len(outputs) == 2:
        for axis in gone:
            fix(labels[axis], f"the place of the {name} along it is taken")
    left = [label for axis, label in enumerate(labels) if axis not in gone]
    kept = [() if axis in gone else label for axis, label in enumerate(labels)]
    for out in outputs:
        mode.set(out, left if out.ndim == len(left) else kept)


@handles(
    "_softmax", "_log_softmax", "_safe_softmax", "cumsum", "cumprod", "flip", "roll", "tril", "triu"
)
def _along(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    """Label what has the axes that it had; a softmax treats all entries alike."""
    labels = mode.labels(args[0])
    if "softmax" not in name:
        if name in ("tril", "triu"):
            axes: Sequence[int] = (-2, -1)
        elif name == "roll":
            axes = args[2] if len(args) > 2 and args[2] else range(args[0].ndim)
        else:
            axes = args[1] if isinstance(args[1], (list, tuple)) else (args[1],)
        for axis in axes:
            fix(labels[axis], f"the operation {name} goes by the order along an axis")
    mode.set(outputs[0], labels)


@handles(
    "zeros_like", "ones_like", "full_like", "empty_like",
    "new_zeros", "new_ones", "new_full", "new_empty",
)  # fmt: skip
def _constant(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    mode.set(outputs[0], [fresh(size) for size in outputs[0].shape])


@handles("_local_scalar_dense", "item", "is_same_size", "equal", "sym_size", "_assert_async")
def _number(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    return


@handles("argmax", "argmin")
def _argmax(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    x = args[0]
    labels = mode.labels(x)
    axis = args[1] if len(args) > 1 else kwargs.get("dim")
    gone = set(range(x.ndim)) if axis is None else {axis % x.ndim}
    for at in gone:
        fix(labels[at], f"the place found by {name} along it is taken")
    left = [label for at, label in enumerate(labels) if at not in gone]
    kept = [() if at in gone else label for at, label in enumerate(labels)]
    mode.set(outputs[0], left if outputs[0].ndim == len(left) else kept)
