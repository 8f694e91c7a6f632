"""What a loss, a model's outputs and a batch must look like."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from thalweg.core.errors import UsageError


def own_loss(model: Any, batch: Any) -> Tensor:
    """Return the loss that a model computes itself of a batch that is a dict."""
    if not isinstance(batch, Mapping):
        raise UsageError(
            f"without a loss, batches must be dicts for model(**batch).loss; found "
            f"{type(batch).__name__}. Pass loss=..., a function of (model, batch)"
        )
    return model(**batch).loss


def check_loss(value: Any) -> None:
    """Raise UsageError unless the value is a tensor of one number."""
    if not isinstance(value, Tensor) or value.numel() != 1:
        found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise UsageError(
            f"the loss must be a tensor of one number, the mean over the batch; found {found}"
        )


def check_repeated(first: float, second: float) -> None:
    """Raise UsageError unless both values of a loss at the same weights are the same."""
    if first != second and not (math.isnan(first) and math.isnan(second)):
        raise UsageError(
            "the loss is not deterministic: at the same weights and on the same batches it "
            f"gave {first!r} and then {second!r}. A landscape of it would show noise: draw "
            "random numbers (augmentation, noise, masks) before making the objective, and use "
            "torch.use_deterministic_algorithms(True) on a GPU"
        )


def outputs_of(found: Any) -> Tensor:
    """Return the tensor in what a model returned: its ``logits`` or the first one."""
    if isinstance(found, Mapping):
        found = found.get("logits", list(found.values()))
    found = getattr(found, "logits", found)
    while isinstance(found, (tuple, list)) and found:
        found = found[0]
    if not isinstance(found, Tensor):
        raise UsageError(
            f"the model's outputs must be a tensor or hold one, found {type(found).__name__}"
        )
    return found


def samples_of(batch: Any) -> int:
    """Return the first dimension of the first tensor in a batch."""
    pending = [batch]
    while pending:
        item = pending.pop(0)
        if isinstance(item, Tensor) and item.ndim:
            return len(item)
        if isinstance(item, Mapping):
            pending = [*item.values(), *pending]
        elif isinstance(item, (tuple, list)):
            pending = [*item, *pending]
    raise UsageError(
        f"a batch must hold a tensor whose first dimension counts samples; found "
        f"{type(batch).__name__} without one"
    )
