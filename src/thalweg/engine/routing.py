"""Which parameters can be taken, and which of them a matrix rule leaves to a second rule."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from thalweg.core.errors import UsageError

_NAMES = re.compile(
    r"(^|[._])(embed\w*|\w*embedding\w*|\w*_emb|emb|wte|wpe|head|\w*_head|classifier|unembed\w*)"
    r"([.]|$)"
)


class Groups(list[dict[str, Any]]):
    """Parameter groups that know their model, so that rules for matrices know its layers."""

    def __init__(self, groups: Iterable[dict[str, Any]], module: nn.Module) -> None:
        super().__init__(groups)
        self.module = module


def named_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Return the trainable parameters of the model by name, tied ones once."""
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def first_and_last_layers(model: nn.Module) -> set[Tensor]:
    """Return the weights of a model that are no hidden matrices, whatever their shape.

    These are the weights of every embedding, of every module that is named like a head or an
    embedding, and of the last module with a matrix in the order of definition, which is the
    output layer unless it is the only one.
    """
    chosen = embeddings(model)
    matrices: list[Tensor] = []
    for module in model.modules():
        matrices += [p for p in module.parameters(recurse=False) if p.ndim >= 2]
    if len(set(matrices)) > 1:
        chosen.add(matrices[-1])
    return chosen | named_like_first_or_last(model.named_parameters())


def embeddings(model: nn.Module) -> set[Tensor]:
    """Return the weights of a model's embeddings, which have a row for each index."""
    return {
        module.weight
        for module in model.modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag)
    }


def named_like_first_or_last(named: Iterable[tuple[str, Tensor]]) -> set[Tensor]:
    """Return the tensors whose names say that they belong to an embedding or a head."""
    return {p for name, p in named if _NAMES.search(name)}


def check_once(entries: Iterable[Any], known: Iterable[Mapping[str, Any]]) -> None:
    """Refuse a parameter that is there twice, as tied weights are in ``state_dict().items()``.

    Args:
        entries: tensors or ``(name, tensor)`` pairs of a new group.
        known: the groups before it.

    Raises:
        UsageError: twice in the group, or in another one; the message names both.
    """
    seen: dict[Tensor, str] = {}
    for group in known:
        names = group.get("param_names") or [""] * len(group["params"])
        seen |= {p: _label(name) for p, name in zip(group["params"], names, strict=True)}
    for entry in entries:
        name, p = entry if isinstance(entry, tuple) else ("", entry)
        if p in seen:
            raise UsageError(
                f"{_label(name)} is the same tensor as {seen[p]} (tied weights?); pass each "
                "parameter once, in one group, or pass the model itself"
            )
        seen[p] = _label(name)


def _label(name: str) -> str:
    return f'parameter "{name}"' if name else "a parameter"


def check_parameter(entry: Any) -> None:
    """Refuse what no rule can train.

    Raises:
        UsageError: not a tensor or a ``(name, tensor)`` pair, complex, not floating-point, or not
            a leaf.
    """
    p = entry[1] if isinstance(entry, tuple) and len(entry) == 2 else entry
    label = _label(entry[0] if isinstance(entry, tuple) else "")
    if not isinstance(p, Tensor):
        raise UsageError(
            f"{label} must be a tensor or a (name, tensor) pair, found {type(p).__name__}"
        )
    if p.is_complex():
        raise UsageError(
            f"{label} is complex ({p.dtype}); pass torch.view_as_real of it as the parameter"
        )
    if not p.is_floating_point():
        raise UsageError(f"{label} must be floating-point, found {p.dtype}")
    if not p.is_leaf:
        raise UsageError(f"{label} is the result of an operation; pass the leaf it was made from")
