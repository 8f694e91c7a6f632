"""What every unit of a network puts out on examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from thalweg.core.errors import UsageError
from thalweg.merge.permutations.discover import call_of
from thalweg.merge.permutations.structure import Axis, Group, Structure, unit_rows
from thalweg.merge.permutations.trace import plain

Site = tuple[nn.Module, Axis]
"""A layer, and where a group's units lie in what it is given or puts out."""

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def unit_activations(model: nn.Module, structure: Structure, example: Any) -> dict[str, Tensor]:
    """Return (units, values) by group of units: what they put out before the nonlinearity.

    Values are of all samples and positions; of groups that several layers write to, of all these
    layers. Where a norm follows, what it puts out.

    Args:
        model: the network, run once in evaluation mode; left as it was.
        structure: of it.
        example: what it is called with.

    Raises:
        UsageError: units whose layer is not called as a module.
    """
    module: nn.Module = getattr(model, "_orig_mod", model)
    args, kwargs = call_of(example)
    groups = [group for group in structure.groups if group.kind == "units"]
    watched = {group.name: _makers(module, group) for group in groups}

    def call() -> None:
        with plain(module):
            module(*args, **kwargs)

    return recorded(groups, watched, "outputs", call)


def recorded(
    groups: Sequence[Group],
    sites: Mapping[str, Sequence[Site]],
    side: Literal["inputs", "outputs"],
    call: Callable[[], object],
) -> dict[str, Tensor]:
    """Return (units, values) by group, float64, of what layers are given or put out in a call.

    Args:
        groups: of which units.
        sites: by group, its layers, and where the units lie in what they are given or put out.
        side: which of the two.
        call: runs the network.

    Raises:
        UsageError: units none of whose layers was called.
    """
    seen: dict[nn.Module, list[Tensor]] = {}

    def keep(layer: nn.Module, args: tuple[Tensor, ...], out: Tensor | None = None) -> None:
        seen.setdefault(layer, []).append((args[0] if out is None else out).detach())

    layers = {layer for some in sites.values() for layer, _ in some}
    hooks = [
        layer.register_forward_pre_hook(keep)
        if side == "inputs"
        else layer.register_forward_hook(keep)
        for layer in layers
    ]
    try:
        call()
    finally:
        for hook in hooks:
            hook.remove()
    found: dict[str, Tensor] = {}
    for group in groups:
        rows = [
            unit_rows(x.double().cpu(), axis, group.size)
            for layer, axis in sites[group.name]
            for x in seen.get(layer, [])
        ]
        if not rows:
            does = "reads" if side == "inputs" else "puts out"
            raise UsageError(
                f'no layer {does} the units "{group.name}", so their activations are not known; '
                "compare weights"
            )
        found[group.name] = torch.cat(rows, 1)
    return found


def _makers(module: nn.Module, group: Group) -> list[Site]:
    """Return the layers that put out a group's units, and where; norms if there are any."""
    found: list[Site] = []
    for axis in group.producers:
        name, _, tensor = axis.tensor.rpartition(".")
        layer = module.get_submodule(name)
        if tensor != "weight":
            continue
        if isinstance(layer, _ConvNd):
            if axis.axis != (1 if isinstance(layer, _ConvTransposeNd) else 0):
                continue
            place = -1 - len(layer.kernel_size)
        elif isinstance(layer, (_NormBase, nn.GroupNorm)):
            place = 1
        elif isinstance(layer, (nn.Linear, nn.Embedding, nn.LayerNorm, nn.RMSNorm)):
            place = -1
        else:
            continue
        found.append((layer, Axis(axis.tensor, place, axis.start, axis.outer, axis.inner)))
    return [maker for maker in found if isinstance(maker[0], _NORMS)] or found
