"""Other views of the same entries: what they do to labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from thalweg.merge.permutations.handlers import handles, reason_of
from thalweg.merge.permutations.labels import (
    Label,
    Refused,
    Unit,
    cut,
    expand,
    fix,
    fresh,
    join,
    reshaped,
    same,
    size_of,
    taken,
)
from thalweg.merge.permutations.structure import INPUT
from thalweg.merge.permutations.trace import Labelled


@handles("alias", "clone", "contiguous", "detach", "lift_fresh", "lift_fresh_copy", "detach_")
def _whole(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    value = mode.value(args[0])
    mode.set(outputs[0], value.labels, value.origin)


@handles("view", "_unsafe_view", "reshape", "_reshape_alias")
def _view(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    if isinstance(args[1], torch.dtype):
        raise Refused
    value = mode.value(args[0])
    labels = reshaped(value.labels, outputs[0].shape, "an axis is split across its units")
    mode.set(outputs[0], labels, value.origin)


@handles("t", "t_", "transpose", "transpose_", "permute", "numpy_T", "movedim")
def _transpose(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    value, name = mode.value(args[0]), name.rstrip("_")
    order = list(range(args[0].ndim))
    if name == "permute":
        order = [axis % args[0].ndim for axis in args[1]]
    elif name == "transpose":
        one, other = (axis % args[0].ndim for axis in args[1:3])
        order[one], order[other] = order[other], order[one]
    elif name == "t":
        order.reverse()
    else:
        raise Refused
    mode.set(outputs[0], [value.labels[axis] for axis in order], value.origin)


@handles("unsqueeze", "unsqueeze_", "squeeze", "squeeze_", "expand")
def _size_one(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    x, out = args[0], outputs[0]
    value = mode.value(x)
    if name == "expand":
        added = out.ndim - x.ndim
        labels = [fresh(size) for size in out.shape[:added]]
        for axis, label in enumerate(value.labels):
            size = out.shape[added + axis]
            labels.append(label if x.shape[axis] == size else fresh(size))
        mode.set(out, labels, value.origin)
        return
    pending = [label for label in value.labels if expand(label)]
    labels = [pending.pop(0) if size > 1 else () for size in out.shape]
    mode.set(out, labels, value.origin)


@handles("select", "unbind")
def _select(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    x = args[0]
    value = mode.value(x)
    axis = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % x.ndim
    first = args[2] % x.shape[axis] if name == "select" else 0
    for place, out in enumerate(outputs, first):
        mode.set(out, _one_place(value.labels, axis, place), value.origin)


def _one_place(labels: Sequence[Label], axis: int, place: int) -> list[Label]:
    """Return the labels of what stands at one index of an axis."""
    others = [label for at, label in enumerate(labels) if at != axis]
    items = expand(labels[axis])
    fix(labels[axis], "one index of the axis is taken")
    if len(items) == 1:
        others = [taken(label, items[0], place) for label in others]
    return others


@handles("slice", "split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes", "narrow")
def _slice(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    x = args[0]
    value = mode.value(x)
    if name == "slice":
        axis = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % x.ndim
        start = args[2] if len(args) > 2 and args[2] is not None else 0
        start = min(max(start + (x.shape[axis] if start < 0 else 0), 0), x.shape[axis])
        if (args[4] if len(args) > 4 else kwargs.get("step", 1)) != 1:
            fix(value.labels[axis], "every other index of the axis is taken")
            labels = list(value.labels)
            labels[axis] = fresh(outputs[0].shape[axis], "every other index of an axis is taken")
            mode.set(outputs[0], labels, value.origin)
            return
    else:
        axis = (args[2] if len(args) > 2 else kwargs.get("dim", 0)) % x.ndim
        start = 0
        if name == "narrow":
            raise Refused
    for out in outputs:
        length = out.shape[axis]
        if length == x.shape[axis]:
            mode.set(out, value.labels, value.origin)
        elif length == 1 and len(expand(value.labels[axis])) == 1:
            labels = _one_place(value.labels, axis, start)
            mode.set(out, [*labels[:axis], (), *labels[axis:]], value.origin)
        else:
            labels = list(value.labels)
            labels[axis] = _stretch(value.labels[axis], start, length)
            mode.set(out, labels, value.origin)
        start += length


def _stretch(label: Label, start: int, length: int) -> Label:
    reason = "a stretch of the axis is taken that cuts through its units"
    if length == 0:
        return (Unit(0, fixed="it is empty"),)
    try:
        if start:
            label = cut(label, start)[1]
        if size_of(label) > length:
            label = cut(label, length)[0]
    except Refused:
        fix(label, reason)
        return fresh(length, reason)
    return label


@handles("cat")
def _cat(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    out = outputs[0]
    axis = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out.ndim
    given = [x for x in args[0] if x.ndim == out.ndim and x.shape[axis]]
    labels = list(mode.labels(given[0]))
    for x in given[1:]:
        for at, label in enumerate(mode.labels(x)):
            if at != axis:
                same(labels[at], label, reason_of(name))
    labels[axis] = join([mode.labels(x)[axis] for x in given])
    mode.set(out, labels)


@handles("stack")
def _stack(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    out = outputs[0]
    axis = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out.ndim
    along = fresh(out.shape[axis], "tensors are stacked along it")
    columns = zip(*(mode.labels(x) for x in args[0]), strict=True)
    labels = [_stacked(column, along, reason_of(name)) for column in columns]
    mode.stacked[id(out)] = list(labels)
    labels.insert(axis, along)
    mode.set(out, labels)


def _stacked(labels: Sequence[Label], along: Label, reason: str) -> Label:
    """Return the label of an axis of stacked tensors, which differs among places if it can."""
    units = [expand(label) for label in labels]
    alone = all(len(one) == 1 and one[0].parts is None and not one[0].places for one in units)
    if alone and along and any(one[0] is not units[0][0] for one in units):
        places = {(along[0], place): one[0] for place, one in enumerate(units)}
        return (Unit(size_of(labels[0]), leads=along, places=places),)
    for label in labels[1:]:
        same(labels[0], label, reason)
    return labels[0]


@handles("repeat")
def _repeat(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    own, times = mode.labels(args[0]), args[1]
    padded = [()] * (len(times) - len(own)) + list(own)
    labels = [(*fresh(count), *label) for count, label in zip(times, padded, strict=True)]
    mode.set(outputs[0], labels)


@handles("constant_pad_nd")
def _pad(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    labels = list(mode.labels(args[0]))
    pad = args[1]
    for place in range(len(pad) // 2):
        before, after = pad[2 * place : 2 * place + 2]
        if before < 0 or after < 0:
            raise Refused
        axis = len(labels) - 1 - place
        stretches = [(Unit(n),) for n in (before,) if n] + [labels[axis] or (Unit(1),)]
        stretches += [(Unit(n),) for n in (after,) if n]
        labels[axis] = join(stretches)
    mode.set(outputs[0], labels)


@handles("index", "index_select", "gather", "embedding", "unfold")
def _index(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    x, out = args[0], outputs[0]
    labels = list(mode.labels(x))
    if name == "embedding":
        fix(labels[0], INPUT)
        mode.set(out, [*mode.labels(args[1]), labels[1]])
        return
    if name == "index_select":
        axis = args[1] % x.ndim
        fix(labels[axis], "indices are looked up along it")
        labels[axis] = fresh(out.shape[axis], "indices are looked up along it")
        mode.set(out, labels)
        return
    if name != "index":
        raise Refused
    found = [(axis, at) for axis, at in enumerate(args[1]) if at is not None]
    if any(at.dtype == torch.bool for _, at in found):
        raise Refused
    axes = [axis for axis, _ in found]
    if axes != list(range(axes[0], axes[0] + len(axes))):
        raise Refused
    for axis in axes:
        fix(labels[axis], "indices are looked up along it")
    for _, at in found:
        for label in mode.labels(at):
            fix(label, "indices are looked up by it")
    width = out.ndim - (x.ndim - len(axes))
    new = [fresh(s, "indices are looked up") for s in out.shape[axes[0] : axes[0] + width]]
    mode.set(out, [*labels[: axes[0]], *new, *labels[axes[-1] + 1 :]])
