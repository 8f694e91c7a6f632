"""Products, convolutions, norms and pools: what they do to labels."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from thalweg.merge.permutations.handlers import handles, pointwise, reason_of, tensors
from thalweg.merge.permutations.labels import (
    Label,
    Refused,
    fix,
    fresh,
    same,
)
from thalweg.merge.permutations.structure import POSITION
from thalweg.merge.permutations.trace import Labelled


@handles("mm", "bmm", "addmm", "baddbmm", "mv", "dot", "addmv")
def _product(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    added = name in ("addmm", "baddbmm", "addmv")
    a, b = args[1:3] if added else args[:2]
    left, right = mode.labels(a), mode.labels(b)
    batch: list[Label] = []
    if a.ndim == 3:
        same(left[0], right[0], reason_of(name))
        batch = [left[0]]
    summed = right[-2] if b.ndim > 1 else right[0]
    same(left[-1], summed, reason_of(name))
    mode.aligned([*batch, summed])
    mode.reads(a, left[-1])
    mode.reads(b, summed)
    rows = [left[-2]] if a.ndim > 1 else []
    columns = [right[-1]] if b.ndim > 1 else []
    labels = [*batch, *rows, *columns]
    mode.set(outputs[0], labels)
    if added:
        pointwise(mode, name, (args[0], outputs[0]), {}, outputs)


@handles("convolution", "_convolution")
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
        same(own[1], kernel[0], reason_of(name))
        if groups > 1:
            same(kernel[0], (*block, *fresh(weight.shape[0] // groups)), reason_of(name))
        channels = (*block, *made)
    else:
        same(own[1], (*block, *kernel[1]), reason_of(name))
        channels = kernel[0]
        if groups > 1:
            same(channels, (*block, *fresh(weight.shape[0] // groups)), reason_of(name))
    mode.aligned([block, kernel[within]])
    mode.reads(weight, kernel[within])
    if bias is not None:
        same(channels, mode.labels(bias)[0], reason_of(name))
    positions = [fresh(size, POSITION) for size in outputs[0].shape[2:]]
    mode.set(outputs[0], [own[0], channels, *positions])


@handles(
    "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
    "_native_batch_norm_legit_functional", "cudnn_batch_norm", "miopen_batch_norm",
    "_batch_norm_with_update", "_batch_norm_no_update", "batch_norm",
)  # fmt: skip
def _batch_norm(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    labels = mode.labels(args[0])
    for x in tensors(args[1:], kwargs):
        if x.ndim == 1:
            same(labels[1], mode.labels(x)[0], reason_of(name))
    mode.set(outputs[0], labels)
    for out in outputs[1:]:
        fits = out.ndim == 1 and out.numel() == args[0].shape[1]
        mode.set(out, [labels[1]] if fits else [fresh(size, "statistics") for size in out.shape])


@handles("native_layer_norm", "_fused_rms_norm", "rms_norm", "layer_norm")
def _layer_norm(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    x, count = args[0], len(args[1])
    labels = mode.labels(x)
    for weight in tensors(args[2:4]):
        for label, own in zip(labels[-count:], mode.labels(weight), strict=True):
            same(label, own, reason_of(name))
    mode.set(outputs[0], labels)
    for out in outputs[1:]:
        mode.set(out, [*labels[: x.ndim - count], *[()] * (out.ndim - x.ndim + count)])


@handles("native_group_norm", "group_norm")
def _group_norm(mode: Labelled, name: str, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    x, groups = args[0], args[6] if name == "native_group_norm" else args[1]
    labels = mode.labels(x)
    for weight in tensors(args[1:5]):
        same(labels[1], mode.labels(weight)[0], reason_of(name))
    channels = x.shape[1]
    if 1 < groups < channels:
        same(labels[1], (*fresh(groups), *fresh(channels // groups)), reason_of(name))
        mode.aligned([labels[1]])
    mode.set(outputs[0], labels)
    for out in outputs[1:]:
        mode.set(out, [fresh(size, "statistics") for size in out.shape])


_SPATIAL = {f"{n}d": n for n in (1, 2, 3)}


@handles(
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
