"""Models whose operations have no second derivative."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from thalweg.core.errors import UsageError


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Say what to do where torch finds that an operation has no second derivative."""
    try:
        yield
    except RuntimeError as error:
        said = str(error)
        if "is not implemented" not in said and "differentiate twice" not in said:
            raise
        raise UsageError(
            f"an operation of the model has no second derivative (torch: {said}). Fast kernels of "
            "attention have none: do not choose them inside the model, and torch's plain one is "
            "taken here"
        ) from None


def check_twice(loss: Tensor) -> None:
    """Raise UsageError if a function of the user's in a loss's graph has a first derivative only.

    Torch takes its second one for zero where ``once_differentiable`` cut the graph.
    """
    for node in _nodes(loss):
        function = getattr(node, "_forward_cls", None)
        backward = getattr(getattr(function, "backward", None), "__code__", None)
        if backward is not None and backward.co_filename == _ONCE:
            raise UsageError(
                f"the model's function {getattr(function, '__name__', '')} is "
                "once_differentiable, so that the loss has no second derivative; write its "
                "backward pass in operations that can be differentiated, and leave that "
                "decorator out"
            )


def check_weight_norm(loss: Tensor) -> None:
    """Raise UsageError if torch's weight norm is in a loss's graph.

    Its backward pass takes the norm for a constant when that is differentiated.
    """
    if any("WeightNormInterface" in node.name() for node in _nodes(loss)):
        raise UsageError(
            "torch's weight norm has a wrong second derivative; parametrise the layer in plain "
            "operations (v * (g / v.norm(dim=1, keepdim=True))) or take the norm out "
            "(torch.nn.utils.parametrize.remove_parametrizations) for what needs a Hessian"
        )


def _nodes(loss: Tensor) -> Iterator[Any]:
    """Give each node of a loss's graph once."""
    pending: list[Any] = [loss.grad_fn]
    seen = set()
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        pending += [following for following, _ in node.next_functions]


_ONCE = torch.autograd.function.once_differentiable.__code__.co_filename
