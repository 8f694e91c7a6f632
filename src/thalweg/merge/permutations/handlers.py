"""The table of what operations do to labels, and the rule for those that act on entries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from thalweg.merge.permutations.labels import Label, same
from thalweg.merge.permutations.trace import Labelled

Handler = Callable[[Labelled, str, tuple[Any, ...], dict[str, Any], list[Tensor]], None]
HANDLERS: dict[str, Handler] = {}


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Register a function as what is done with these operations."""

    def add(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return add


def tensors(*values: Any) -> list[Tensor]:
    """Return all tensors in nested values."""
    return [x for x in tree_leaves(values) if isinstance(x, Tensor)]


def reason_of(name: str) -> str:
    """Return what is said of units that an operation's two sides do not have alike."""
    return f"the operation {name.rstrip('_')} joins axes that differ in structure"


@handles(
    "_prelu_kernel", "_to_copy", "copy", "copy_", "hardswish", "hardswish_", "log_sigmoid_forward",
    "masked_fill", "masked_fill_", "rrelu_with_noise", "where",
)  # fmt: skip
def pointwise(
    mode: Labelled, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: list[Tensor]
) -> None:
    """Label an operation on each entry: what is broadcast together is the same units."""
    given = tensors(args, kwargs)
    reason = reason_of(name)
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
