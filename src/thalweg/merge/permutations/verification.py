"""Whether permutations leave a network's function alone, by trying."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from thalweg.core.errors import UsageError
from thalweg.merge.permutations.discover import call_of
from thalweg.merge.permutations.structure import Structure
from thalweg.merge.permutations.trace import plain, plain_outputs

TOLERANCE = 1e-9
"""Of outputs in float64, relative to the largest: rounding moves them by about 1e-15."""


def verify(model: nn.Module, structure: Structure, example: Any, *, seed: int = 0) -> float:
    r"""Permute all units at random and compare the network's outputs in float64.

    If they differ, every group is tried alone, so that the message can name it. The weights are
    drawn anew, :math:`N(0, 1/n)` for n columns and :math:`U(0.5, 1.5)` for vectors, because at an
    initialisation (zero biases, unit scales) much has no effect.

    Args:
        model: the network; left as it was.
        structure: what `discover` found.
        example: as for `discover`.
        seed: of the permutations and weights.

    Returns:
        the largest difference of an output over the largest output.

    Raises:
        UsageError: outputs differ; the group is named.
    """
    return verify_call(model, structure, *call_of(example), seed=seed)


def verify_call(
    model: nn.Module,
    structure: Structure,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    seed: int = 0,
) -> float:
    """As `verify`, of a call with these arguments and keywords."""
    module = copy.deepcopy(getattr(model, "_orig_mod", model)).double()
    args, kwargs = tree_map(_double, (args, kwargs))
    state = _drawn(module, seed)
    permutations = structure.random(seed)
    expected = _outputs(module, state, args, kwargs)

    def difference(chosen: dict[str, Tensor]) -> float:
        found = _outputs(module, structure.apply(state, chosen), args, kwargs)
        largest = max((float(x.abs().max()) for x in expected if x.numel()), default=0.0)
        over = max(
            (float((x - y).abs().max()) for x, y in zip(expected, found, strict=True) if x.numel()),
            default=0.0,
        )
        return over / largest if largest else over

    whole = difference(permutations)
    if whole <= TOLERANCE:
        return whole
    for group in structure.groups:
        alone = difference({group.name: permutations[group.name]})
        if not alone <= TOLERANCE:
            raise UsageError(
                f'permuting the units of "{group.name}" changes the outputs by {alone:.2g} of the '
                "largest, so the network has a way through it that was not seen: does it use "
                "weights as numbers (.data, .item()), or random numbers in evaluation mode?"
            )
    raise UsageError(
        f"permuting all units changes the outputs by {whole:.2g} of the largest, and no group of "
        "units alone does; the network's symmetries are not understood"
    )


def _drawn(module: nn.Module, seed: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    found = {}
    for name, x in module.state_dict().items():
        if not isinstance(x, Tensor) or not x.is_floating_point():
            found[name] = x
            continue
        if x.ndim < 2:
            value = torch.rand(x.shape, generator=draw, dtype=torch.float64) + 0.5
        else:
            value = torch.randn(x.shape, generator=draw, dtype=torch.float64)
            value /= max(x[0].numel(), 1) ** 0.5
        found[name] = value.to(x.device)
    # Names that share a tensor must share the new one.
    first: dict[int, str] = {}
    for name, x in module.state_dict(keep_vars=True).items():
        found[name] = found[first.setdefault(id(x), name)]
    return found


def _outputs(
    module: nn.Module, state: dict[str, Tensor], args: Any, kwargs: dict[str, Any]
) -> list[Tensor]:
    module.load_state_dict(state)
    with plain(module), _InDouble():
        try:
            result = module(*args, **kwargs)
        except (TypeError, RuntimeError) as error:
            raise UsageError(f"the model cannot be run in float64: {error}") from error
    return [
        x.detach().clone()
        for x in tree_leaves(plain_outputs(result))
        if isinstance(x, Tensor) and x.is_floating_point()
    ]


class _InDouble(TorchDispatchMode):
    """Computes in float64 also where a model makes or asks for tensors of less."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        args, kwargs = tree_map(_double, (args, kwargs or {}))
        result = func(*args, **kwargs)
        return tree_map(_double, result)


def _double(x: Any) -> Any:
    if isinstance(x, torch.dtype):
        return torch.float64 if x.is_floating_point else x
    if isinstance(x, Tensor) and x.is_floating_point() and x.dtype != torch.float64:
        return x.double()
    return x
