"""What each of torch's operations does to the labels of axes.

An operation that is not here keeps the order of all units that it touches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

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
from thalweg.merge.permutations.structure import INPUT, POSITION
from thalweg.merge.permutations.trace import Labelled

Handler = Callable[[Labelled, str, tuple[Any, ...], dict[str, Any], list[Tensor]], None]
_HANDLERS: dict[str, Handler] = {}


def follow(
    mode: Labelled, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: list[Tensor]
) -> None:
    """Label the outputs of an operation."""
    name = str(func).removeprefix("aten.").partition(".")[0]
    handler = _HANDLERS.get(name)
    if handler is None and torch.Tag.pointwise in func.tags:
        handler = _pointwise
    if handler is None:
        handler = _unknown
    try:
        handler(mode, name, args, kwargs, outputs)
    except Refused:
        _unknown(mode, name, args, kwargs, outputs)
    for x in outputs:
        mode.value(x)


def _handles(*names: str) -> Callable[[Handler], Handler]:
    def add(handler: Handler) -> Handler:
        _HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return add


def _tensors(*values: Any) -> list[Tensor]:
    return [x for x in tree_leaves(values) if isinstance(x, Tensor)]


def _unknown(
    mode: Labelled, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: list[Tensor]
) -> None:
    reason = f"the operation {name} is not one whose symmetries are known"
    for x in _tensors(args, kwargs):
        for label in mode.labels(x):
            fix(label, reason)
    for x in outputs:
        if not any(x is given for given in _tensors(args, kwargs)):
            mode.set(x, [fresh(size, reason) for size in x.shape])


def _reason(name: str) -> str:
    return f"the operation {name.rstrip('_')} joins axes that differ in structure"


# Operations on each entry -------------------------------------------------------------------


@_handles("_prelu_kernel", "copy", "_safe_softmax", "masked_fill", "where", "rrelu_with_noise")
def _pointwise(
    mode: Labelled, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: list[Tensor]
) -> None:
    given = _tensors(args, kwargs)
    reason = _reason(name)
    for out in outputs:
        labels: list[Label] = [()] * out.ndim
        for x in given:
            own = mode.labels(x)
            for axis in range(1, min(x.ndim, out.ndim) + 1):
                if x.shape[-axis] != out.shape[-axis] or out.shape[-axis] == 1:
                    continue
                if labels[-axis] == ():
                    labels[-axis] = own[-axis]
                else:
                    same(labels[-axis], own[-axis], reason)
        if not any(out is x for x in given):
            one = given[0] if len(given) == 1 else None
            origin = mode.value(one).origin if one is not None and name == "_to_copy" else None
            mode.set(out, labels, origin)


_HANDLERS["_to_copy"] = _pointwise


@_handles("copy_")
def _copy(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    _pointwise(mode, name, args, kwargs, outputs)


@_handles("_softmax", "_log_softmax", "cumsum", "cumprod", "flip", "roll", "tril", "triu")
def _along(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    """Label what has the axes that it had; a softmax treats all entries alike."""
    labels = mode.labels(args[0])
    if name not in ("_softmax", "_log_softmax"):
        if name in ("tril", "triu"):
            axes: Sequence[int] = (-2, -1)
        elif name == "roll":
            axes = args[2] if len(args) > 2 and args[2] else range(args[0].ndim)
        else:
            axes = args[1] if isinstance(args[1], (list, tuple)) else (args[1],)
        for axis in axes:
            fix(labels[axis], f"the operation {name} goes by the order along an axis")
    mode.set(outputs[0], labels)


# Views ----------------------------------------------------------------------------------------


@_handles("alias", "clone", "contiguous", "detach", "lift_fresh", "lift_fresh_copy", "detach_")
def _whole(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    value = mode.value(args[0])
    mode.set(outputs[0], value.labels, value.origin)


@_handles("view", "_unsafe_view", "reshape", "_reshape_alias")
def _view(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    if isinstance(args[1], torch.dtype):
        raise Refused
    value = mode.value(args[0])
    labels = reshaped(value.labels, outputs[0].shape, "an axis is split across its units")
    mode.set(outputs[0], labels, value.origin)


@_handles("t", "transpose", "permute", "numpy_T", "movedim")
def _transpose(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    value = mode.value(args[0])
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


@_handles("unsqueeze", "squeeze", "expand")
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


@_handles("select", "unbind")
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


@_handles("slice", "split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes", "narrow")
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


@_handles("cat")
def _cat(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    out = outputs[0]
    axis = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out.ndim
    given = [x for x in args[0] if x.ndim == out.ndim and x.shape[axis]]
    labels = list(mode.labels(given[0]))
    for x in given[1:]:
        for at, label in enumerate(mode.labels(x)):
            if at != axis:
                same(labels[at], label, _reason(name))
    labels[axis] = join([mode.labels(x)[axis] for x in given])
    mode.set(out, labels)


@_handles("stack")
def _stack(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    out = outputs[0]
    axis = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out.ndim
    labels = list(mode.labels(args[0][0]))
    for x in args[0][1:]:
        for at, label in enumerate(mode.labels(x)):
            same(labels[at], label, _reason(name))
    labels.insert(axis, fresh(out.shape[axis], "tensors are stacked along it"))
    mode.set(out, labels)


@_handles("repeat")
def _repeat(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    own, times = mode.labels(args[0]), args[1]
    padded = [()] * (len(times) - len(own)) + list(own)
    labels = [(*fresh(count), *label) for count, label in zip(times, padded, strict=True)]
    mode.set(outputs[0], labels)


@_handles("constant_pad_nd")
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


@_handles("index", "index_select", "gather", "embedding", "unfold")
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


# Sums over axes -------------------------------------------------------------------------------


@_handles(
    "sum", "mean", "amax", "amin", "var", "std", "var_mean", "std_mean", "prod", "any", "all",
    "logsumexp", "linalg_vector_norm", "norm", "max", "min",
)  # fmt: skip
def _reduce(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    x = args[0]
    if len(args) > 1 and isinstance(args[1], Tensor):
        _pointwise(mode, name, args, kwargs, outputs)  # max(a, b)
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


@_handles("mm", "bmm", "addmm", "baddbmm", "mv", "dot", "addmv")
def _product(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    added = name in ("addmm", "baddbmm", "addmv")
    a, b = args[1:3] if added else args[:2]
    left, right = mode.labels(a), mode.labels(b)
    batch: list[Label] = []
    if a.ndim == 3:
        same(left[0], right[0], _reason(name))
        batch = [left[0]]
    summed = right[-2] if b.ndim > 1 else right[0]
    same(left[-1], summed, _reason(name))
    mode.aligned([*batch, summed])
    mode.reads(a, left[-1])
    mode.reads(b, summed)
    for place, x in enumerate((a, b)):
        mode.tap(place + added, x)
    rows = [left[-2]] if a.ndim > 1 else []
    columns = [right[-1]] if b.ndim > 1 else []
    labels = [*batch, *rows, *columns]
    mode.set(outputs[0], labels)
    if added:
        _pointwise(mode, name, (args[0], outputs[0]), {}, outputs)


@_handles("convolution", "_convolution")
def _convolution(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    x, weight, bias = args[:3]
    transposed, groups = args[6], args[8]
    if x.ndim != weight.ndim:
        raise Refused
    own, kernel = mode.labels(x), mode.labels(weight)
    for label in (*own[2:], *kernel[2:]):
        fix(label, POSITION)
    within = 0 if transposed else 1
    block = fresh(groups)
    if transposed:
        made = kernel[1]
        same(own[1], kernel[0], _reason(name))
        if groups > 1:
            same(kernel[0], (*block, *fresh(weight.shape[0] // groups)), _reason(name))
        channels = (*block, *made)
    else:
        same(own[1], (*block, *kernel[1]), _reason(name))
        channels = kernel[0]
        if groups > 1:
            same(channels, (*block, *fresh(weight.shape[0] // groups)), _reason(name))
    mode.aligned([block, kernel[within]])
    mode.reads(weight, kernel[within])
    mode.tap(0, x)
    if bias is not None:
        same(channels, mode.labels(bias)[0], _reason(name))
    positions = [fresh(size, POSITION) for size in outputs[0].shape[2:]]
    mode.set(outputs[0], [own[0], channels, *positions])


# Norms and pools ------------------------------------------------------------------------------


@_handles(
    "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
    "_native_batch_norm_legit_functional", "cudnn_batch_norm", "miopen_batch_norm",
    "_batch_norm_with_update", "_batch_norm_no_update", "batch_norm",
)  # fmt: skip
def _batch_norm(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    labels = mode.labels(args[0])
    for x in _tensors(args[1:], kwargs):
        if x.ndim == 1:
            same(labels[1], mode.labels(x)[0], _reason(name))
    mode.set(outputs[0], labels)
    for out in outputs[1:]:
        fits = out.ndim == 1 and out.numel() == args[0].shape[1]
        mode.set(out, [labels[1]] if fits else [fresh(size, "statistics") for size in out.shape])


@_handles("native_layer_norm", "_fused_rms_norm", "rms_norm", "layer_norm")
def _layer_norm(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    x, count = args[0], len(args[1])
    labels = mode.labels(x)
    for weight in _tensors(args[2:4]):
        for label, own in zip(labels[-count:], mode.labels(weight), strict=True):
            same(label, own, _reason(name))
    mode.set(outputs[0], labels)
    for out in outputs[1:]:
        mode.set(out, [*labels[: x.ndim - count], *[()] * (out.ndim - x.ndim + count)])


@_handles("native_group_norm", "group_norm")
def _group_norm(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    x, groups = args[0], args[6] if name == "native_group_norm" else args[1]
    labels = mode.labels(x)
    for weight in _tensors(args[1:5]):
        same(labels[1], mode.labels(weight)[0], _reason(name))
    channels = x.shape[1]
    if 1 < groups < channels:
        same(labels[1], (*fresh(groups), *fresh(channels // groups)), _reason(name))
        mode.aligned([labels[1]])
    mode.set(outputs[0], labels)
    for out in outputs[1:]:
        mode.set(out, [fresh(size, "statistics") for size in out.shape])


_SPATIAL = {f"{n}d": n for n in (1, 2, 3)}


@_handles(
    *[f"{kind}_pool{n}" for n in _SPATIAL for kind in ("avg", "adaptive_avg", "_adaptive_avg")],
    *[f"max_pool{n}{tail}" for n in _SPATIAL for tail in ("", "_with_indices")],
    *[f"adaptive_max_pool{n}" for n in _SPATIAL],
    *[f"reflection_pad{n}" for n in _SPATIAL],
    *[f"replication_pad{n}" for n in _SPATIAL],
    "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact2d",
    "upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d",
)  # fmt: skip
def _pool(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    count = next(n for tail, n in _SPATIAL.items() if tail in name)
    labels = mode.labels(args[0])
    for label in labels[-count:]:
        fix(label, POSITION)
    for out in outputs:
        mode.set(out, [*labels[:-count], *(fresh(s, POSITION) for s in out.shape[-count:])])


@_handles("zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full")
def _constant(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    mode.set(outputs[0], [fresh(size) for size in outputs[0].shape])


@_handles("_local_scalar_dense", "item", "is_same_size", "equal", "sym_size", "_assert_async")
def _number(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    return


@_handles("argmax", "argmin")
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
