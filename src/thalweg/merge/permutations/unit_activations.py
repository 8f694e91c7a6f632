"""What every unit of a network puts out on examples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from thalweg.core.errors import UsageError
from thalweg.merge.permutations.discover import call_of
from thalweg.merge.permutations.structure import Axis, Group, Structure, unit_rows
from thalweg.merge.permutations.trace import plain

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
    outputs: dict[nn.Module, list[Tensor]] = {}
    hooks = [
        layer.register_forward_hook(
            lambda layer, _, out: outputs.setdefault(layer, []).append(out.detach())
        )
        for layer in {layer for makers in watched.values() for layer, _ in makers}
    ]
    try:
        with plain(module):
            module(*args, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()
    found: dict[str, Tensor] = {}
    for group in groups:
        rows = [
            unit_rows(out.double().cpu(), axis, group.size)
            for layer, axis in watched[group.name]
            for out in outputs.get(layer, [])
        ]
        if not rows:
            raise UsageError(
                f'no module puts out the units "{group.name}", so their activations are not known; '
                'compare weights (by="weights")'
            )
        found[group.name] = torch.cat(rows, 1)
    return found


def _makers(module: nn.Module, group: Group) -> list[tuple[nn.Module, Axis]]:
    """Return the layers that put out a group's units, and where; norms if there are any."""
    found: list[tuple[nn.Module, Axis]] = []
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
