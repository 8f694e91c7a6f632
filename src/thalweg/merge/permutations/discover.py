"""The permutations that leave a network's function alone, found by running it once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.merge.permutations.labels import Label, Unit, expand, parts_of, size_of
from thalweg.merge.permutations.structure import Axis, Group, Structure
from thalweg.merge.permutations.trace import Trace, run

if TYPE_CHECKING:
    from thalweg.landscape import Objective


@dataclass(frozen=True)
class Place:
    """Where a unit lies along an axis: like `Axis`, with the unit that stands before it."""

    unit: Unit
    start: int
    outer: int
    inner: int
    before: Unit | None


def discover(model: nn.Module, example: Any) -> Structure:
    r"""Return which units of a network may change places without changing its function.

    The network runs once on the example, in evaluation mode, and every axis of every tensor
    carries a label of its units through all of torch's operations. Residual sums, norms and tied
    weights make labels the same, so such units move together; concatenation, flattening, groups
    and attention heads split them. Whatever an operation that is not understood touches, and what
    the network is given and returns, keeps its order; `Structure.fixed` says why. Only the way
    that the example takes is seen; `thalweg.merge.permutations.verify` compares functions.

    Args:
        model: the network; left as it was.
        example: what it is called with: a tensor, a tuple of arguments, or a dict of keywords. A
            few samples suffice.

    Returns:
        the structure; permutations that depend on others (units within heads) come after them.

    Raises:
        UsageError: the network cannot be run on the example.
    """
    return structure_of(trace(model, example), model)


def trace(model: nn.Module, example: Any) -> Trace:
    """Return what a run on the example shows.

    Raises:
        UsageError: it cannot be run.
    """
    module: nn.Module = getattr(model, "_orig_mod", model)
    args, kwargs = call_of(example)
    try:
        return run(module, args, kwargs)
    except (TypeError, RuntimeError) as error:
        raise UsageError(f"the model cannot be run on the example: {error}") from error


def call_of(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return an example as positional arguments and keywords."""
    if isinstance(example, Mapping):
        return (), dict(example)
    if isinstance(example, tuple):
        return example, {}
    return (example,), {}


def example_of(objective: Objective) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments with which a loss calls its model first.

    Raises:
        UsageError: it never does.
    """
    seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append((args, kwargs))

    hook = objective.module.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        with torch.no_grad(), objective.differentiable():
            objective.loss_of(objective.batches[0])
    finally:
        hook.remove()
    if not seen:
        raise UsageError("the loss does not call the model, so its structure cannot be found")
    return seen[0]


def structure_of(found: Trace, model: nn.Module) -> Structure:
    """Return the groups of a trace."""
    module: nn.Module = getattr(model, "_orig_mod", model)
    state = module.state_dict()
    shapes = {name: tuple(x.shape) for name, x in state.items() if isinstance(x, Tensor)}
    places = {
        (name, axis): list(walk(label))
        for name, labels in found.state.items()
        for axis, label in enumerate(labels)
    }
    fixed = {
        (name, axis): place.unit.fixed
        for (first, axis), along in places.items()
        for place in along
        if place.unit.fixed
        for name in found.names[first]
    }
    used = {name for first in found.state for name in found.names[first]}
    fixed |= {
        (name, axis): "the network does not use it"
        for name, shape in shapes.items()
        if name not in used
        for axis in range(len(shape))
    }
    read = {(unit, name) for label, name in found.read for unit in _all_units(label)}
    axes: dict[Unit, list[tuple[Axis, Place]]] = {}
    for (first, axis), along in places.items():
        for place in along:
            if place.unit.fixed or place.unit.size < 2:
                continue
            role: Literal["makes", "reads"] = "reads" if (place.unit, first) in read else "makes"
            if role == "reads" and _also_made(first, axis, place.unit, places):
                role = "makes" if axis == 0 else "reads"
            for name in found.names[first]:
                where = Axis(name, axis, place.start, place.outer, place.inner, role)
                axes.setdefault(place.unit, []).append((where, place))
    tied = {name: first for first, names in found.names.items() for name in names[1:]}
    return Structure(tuple(_groups(axes, found)), shapes, fixed, tied)


def walk(label: Label) -> list[Place]:
    """Return where each unit of a label lies."""
    return list(_walk(expand(label), 0, 1, 1, None)) if size_of(label) else []


def _walk(items: Label, start: int, outer: int, inner: int, before: Unit | None) -> Any:
    """Give the places of a label's units, where (outer, label, inner) begins at start."""
    behind = size_of(items)
    for at, unit in enumerate(items):
        behind //= unit.size
        followers = items[at + 1 :]
        own = [(unit, place) for place in range(unit.size)]
        if followers and any(key in one.places for one in followers for key in own):
            # Each place of this unit has units of its own behind it.
            for outside in range(outer):
                base = start + outside * unit.size * behind * inner
                yield Place(unit, base, 1, behind * inner, before)
                for place in range(unit.size):
                    new: list[Unit] = []
                    for one in followers:
                        new += expand((one.places.get((unit, place), one),))
                    yield from _walk(tuple(new), base + place * behind * inner, 1, inner, unit)
            return
        if unit.parts is not None:
            width = unit.size * behind * inner
            for outside in range(outer):
                base = start + outside * width
                for part in parts_of(unit):
                    yield from _walk(part, base, 1, behind * inner, before)
                    base += size_of(part) * behind * inner
        else:
            yield Place(unit, start, outer, behind * inner, before)
        outer *= unit.size
        before = unit


def _all_units(label: Label) -> set[Unit]:
    return {place.unit for place in walk(label)}


def _also_made(
    name: str, axis: int, unit: Unit, places: Mapping[tuple[str, int], list[Place]]
) -> bool:
    """Return whether a tensor has a unit along another axis, too."""
    return any(
        other == name and at != axis and any(place.unit is unit for place in along)
        for (other, at), along in places.items()
    )


def _groups(axes: Mapping[Unit, list[tuple[Axis, Place]]], found: Trace) -> list[Group]:
    """Return groups with names, blocks before what is within them."""
    parents = _parents(axes, found)
    blocks = set(parents.values())
    taken: dict[str, int] = {}

    def called(name: str) -> str:
        taken[name] = taken.get(name, 0) + 1
        return name if taken[name] == 1 else f"{name} ({taken[name]})"

    names: dict[Unit, str] = {}
    outer, inner = [], []
    for unit, along in axes.items():
        if unit in parents:
            continue
        where = tuple(axis for axis, _ in along)
        base = _maker(where)
        names[unit] = called(f"{base}: blocks" if unit in blocks else base)
        outer.append(Group(names[unit], unit.size, where, "blocks" if unit in blocks else "units"))
    for unit, parent in parents.items():
        along = axes[unit]
        base = called(f"{_maker(tuple(axis for axis, _ in along))}: within blocks")
        for block in range(parent.size):
            # The block's own stretch: the units' place within the axis (outer, blocks, units).
            where = tuple(
                replace(
                    axis,
                    start=axis.start + (outside * parent.size + block) * unit.size * axis.inner,
                    outer=1,
                )
                for axis, _ in along
                for outside in range(axis.outer // parent.size)
            )
            name = f"{base} {block}"
            parent_name = names.get(parent)
            inner.append(Group(name, unit.size, where, "within", parent_name, block, base))
    return [*outer, *inner]


def _parents(axes: Mapping[Unit, list[tuple[Axis, Place]]], found: Trace) -> dict[Unit, Unit]:
    """Return the units of which each block can have an order of its own, with the blocks.

    So it is if the unit stands right behind the blocks wherever it is in the state dict, and no
    operation has it without them.
    """
    company: dict[Unit, set[Unit]] = {}
    for labels in found.together:
        present = {unit for label in labels for unit in _all_units(label)}
        for unit in present:
            company[unit] = company[unit] & present if unit in company else set(present)
    candidates: dict[Unit, Unit] = {}
    for unit, along in axes.items():
        before = {place.before for _, place in along}
        (parent,) = before if len(before) == 1 else (None,)
        if parent is None or parent is unit or parent not in company.get(unit, ()):
            continue
        if all(axis.outer % parent.size == 0 for axis, _ in along):
            candidates[unit] = parent
    return {unit: parent for unit, parent in candidates.items() if parent not in candidates}


def _maker(axes: tuple[Axis, ...]) -> str:
    """Return the name of the layer or tensor that makes the units of these axes."""
    first = next((axis for axis in axes if axis.role == "makes"), axes[0])
    layer, _, tensor = first.tensor.rpartition(".")
    return layer or tensor
