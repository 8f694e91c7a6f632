"""Affine mixes of stored weights, written into a model in place."""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from thalweg.core.batch_norm import batch_norm_layers
from thalweg.core.errors import UsageError

Weights = Mapping[str, Tensor]
"""Weights by name, as of ``model.state_dict()``."""

Slots = dict[tuple[str, ...], Tensor]
"""Distinct tensors of a model, each under all of its names (tied weights have several)."""


class Mix:
    """Points of one model, and the writing of their mixes into it.

    Args:
        module: the model; `write` changes it.
        points: weights by the points' names, copied at once to the model's dtypes and devices.
        statistics_of: the points whose batch-norm statistics are needed for `write_statistics`;
            ``None`` means that statistics mix like weights.

    Raises:
        UsageError: no point, or weights that are not this model's.
    """

    def __init__(
        self,
        module: nn.Module,
        points: Mapping[str, Weights],
        statistics_of: Iterable[str] | None = None,
    ) -> None:
        if not points:
            raise UsageError("no points were given; pass weights by name")
        slots, statistics = _slots(module)
        self._statistics = {} if statistics_of is None else statistics
        if statistics_of is None:
            slots |= statistics
        names = {name for aliases in [*slots, *self._statistics] for name in aliases}
        for point, weights in points.items():
            _check_names(point, weights, names)
        real = [a for a, t in slots.items() if t.is_floating_point() or t.is_complex()]
        self._here = [slots[aliases] for aliases in real]
        self._there = [_copies(p, w, {a: slots[a] for a in real}) for p, w in points.items()]
        whole = {aliases: tensor for aliases, tensor in slots.items() if aliases not in real}
        self._whole_here = list(whole.values())
        self._whole_there = [_copies(p, w, whole) for p, w in points.items()]
        self._kept = {p: _copies(p, points[p], self._statistics) for p in statistics_of or ()}

    def write_statistics(self, point: str) -> None:
        """Give the model's batch-norm layers the statistics of one point."""
        for tensor, value in zip(self._statistics.values(), self._kept[point], strict=True):
            tensor.copy_(value)

    def write(self, coefficients: Sequence[float]) -> None:
        """Write the mix into the model: a unit vector gives a point's weights bit for bit.

        Raises:
            UsageError: not one coefficient a point, or they do not add up to 1.
        """
        if len(coefficients) != len(self._there):
            raise UsageError(f"expected {len(self._there)} coefficients, found {len(coefficients)}")
        if not math.isclose(math.fsum(coefficients), 1.0, rel_tol=0, abs_tol=1e-9):
            raise UsageError(f"the coefficients must add up to 1, found {math.fsum(coefficients)}")
        # Zeros are left out: they cost a pass, and 0 * inf would be NaN.
        terms = [(c, there) for c, there in zip(coefficients, self._there, strict=True) if c != 0]
        torch._foreach_copy_(self._here, terms[0][1])
        if terms[0][0] != 1:
            torch._foreach_mul_(self._here, terms[0][0])
        for coefficient, there in terms[1:]:
            torch._foreach_add_(self._here, there, alpha=coefficient)
        nearest = max(range(len(coefficients)), key=lambda i: coefficients[i])
        for tensor, value in zip(self._whole_here, self._whole_there[nearest], strict=True):
            tensor.copy_(value)


def _slots(module: nn.Module) -> tuple[Slots, Slots]:
    """Return what ``state_dict`` holds without and with batch-norm statistics, tied ones once."""
    stored = {k: t for k, t in module.state_dict(keep_vars=True).items() if isinstance(t, Tensor)}
    aliases: dict[int, list[str]] = {}
    for name, tensor in stored.items():
        aliases.setdefault(id(tensor), []).append(name)
    owned = {
        id(buffer)
        for layer in batch_norm_layers(module).values()
        for buffer in layer.buffers(recurse=False)
    }
    # `.data` keeps the version counters, so a graph that the caller still holds stays usable.
    slots = {tuple(names): stored[names[0]].data for key, names in aliases.items()}
    kept = {tuple(names) for key, names in aliases.items() if key in owned}
    if all(key in owned for key in aliases):
        raise UsageError("the model has no weights")
    return (
        {names: tensor for names, tensor in slots.items() if names not in kept},
        {names: tensor for names, tensor in slots.items() if names in kept},
    )


def _check_names(point: str, weights: Weights, names: set[str]) -> None:
    strangers = sorted(set(weights) - names)
    if strangers:
        raise UsageError(
            f'the weights of "{point}" hold "{strangers[0]}", which the model does not have; '
            "pass weights of this very architecture"
        )


def _copies(point: str, weights: Weights, slots: Slots) -> list[Tensor]:
    """Return a point's tensors for these slots, as copies of the model's dtype and device."""
    copies = []
    for aliases, target in slots.items():
        value = next((weights[name] for name in aliases if name in weights), None)
        if value is None:
            raise UsageError(
                f'the weights of "{point}" lack "{aliases[0]}"; pass the whole state_dict'
            )
        if value.shape != target.shape:
            raise UsageError(
                f'the weights of "{point}" have "{aliases[0]}" of shape {tuple(value.shape)}, the '
                f"model has {tuple(target.shape)}; pass weights of this very architecture"
            )
        copies.append(value.detach().to(target, copy=True))
    return copies
