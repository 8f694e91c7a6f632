"""Which units of a network may change places, and where they lie in its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.core.seeds import generator

Permutations = Mapping[str, Tensor]
"""By group: unit i of the result is the unit p[i] of what is permuted."""


@dataclass(frozen=True)
class Axis:
    """Where a group's units lie along one axis of one tensor.

    Indices ``start`` to ``start + outer * size * inner`` of the axis, read as (outer, size,
    inner), have the units in the middle. A flattened map of H x W has inner = H W, features of a
    head that is one of many have start = the head's first feature.

    Attributes:
        tensor: its name in the state dict.
        axis: the number of the axis.
        start: the first index.
        outer: how often the units are repeated.
        inner: how many neighbouring indices belong to one unit.
        role: "makes" if the tensor's layer makes the units (rows of a weight, a bias, the scale
            of a norm), "reads" if it takes them in (columns of a weight).
    """

    tensor: str
    axis: int
    start: int = 0
    outer: int = 1
    inner: int = 1
    role: Literal["makes", "reads"] = "makes"


@dataclass(frozen=True)
class Group:
    """Units that change places together without changing the network's function.

    Attributes:
        name: of the first layer or tensor that makes them.
        size: how many.
        axes: everywhere they are.
        kind: "units"; "blocks", each of which holds units of its own, such as attention heads or
            the groups of a group norm; or "within", units inside one block.
        parent: of units within a block: the blocks' group.
        block: and the place of the block. Blocks are permuted first, so that units within move
            in the block that is at this place then.
        family: and what they are called together with those of the other blocks.
    """

    name: str
    size: int
    axes: tuple[Axis, ...]
    kind: Literal["units", "blocks", "within"] = "units"
    parent: str | None = None
    block: int = 0
    family: str | None = None

    @property
    def producers(self) -> tuple[Axis, ...]:
        """Return the axes on the side of the layers that make the units."""
        return tuple(axis for axis in self.axes if axis.role == "makes")

    @property
    def consumers(self) -> tuple[Axis, ...]:
        """Return the axes on the side of the layers that read them."""
        return tuple(axis for axis in self.axes if axis.role == "reads")


@dataclass(frozen=True)
class Structure:
    """All permutations of a network's units that leave its function alone.

    Attributes:
        groups: blocks before what is within them, else in the order of computation.
        shapes: of all tensors of the state dict.
        fixed: why the entries along an axis keep their order, by (tensor, axis); of an axis that
            is permuted in part, the fixed part.
        tied: names whose tensor is that of another name.
    """

    groups: tuple[Group, ...]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    fixed: Mapping[tuple[str, int], str] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Group:
        """Return a group by its name."""
        return next(group for group in self.groups if group.name == name)

    @property
    def unit_count(self) -> int:
        """Return the number of units that can move, each counted once."""
        return sum(group.size for group in self.groups if group.kind != "blocks") + sum(
            group.size for group in self.groups if group.kind == "blocks" and not self.within(group)
        )

    def within(self, blocks: Group) -> list[Group]:
        """Return the groups of units inside a group's blocks."""
        return [group for group in self.groups if group.parent == blocks.name]

    @property
    def reasons(self) -> dict[str, list[str]]:
        """Return the tensors with an axis none of whose entries can move, by the reason.

        Positions of kernels, and what the network is given and returns, are left out: nobody
        expects these to be permuted.
        """
        moving = {(axis.tensor, axis.axis) for group in self.groups for axis in group.axes}
        found: dict[str, list[str]] = {}
        for (tensor, axis), reason in self.fixed.items():
            if reason not in (INPUT, OUTPUT, POSITION) and (tensor, axis) not in moving:
                found.setdefault(reason, []).append(f"{tensor} (axis {axis})")
        return found

    def identity(self) -> dict[str, Tensor]:
        """Return the permutations that move nothing."""
        return {group.name: torch.arange(group.size) for group in self.groups}

    def random(self, seed: int = 0) -> dict[str, Tensor]:
        """Return one uniform random permutation a group."""
        draw = generator(seed, "merge", "permutations")
        return {group.name: torch.randperm(group.size, generator=draw) for group in self.groups}

    def apply(self, state: Mapping[str, Tensor], permutations: Permutations) -> dict[str, Tensor]:
        """Return a state dict with its units in another order; what does not move is shared.

        Args:
            state: of a network with this structure.
            permutations: by the groups' names; groups that are left out stay as they are.

        Raises:
            UsageError: a group that is unknown, what is no permutation of its size, or a state
                dict that lacks a tensor or has another shape.
        """
        self.check(state)
        known = {group.name: group for group in self.groups}
        for name, permutation in permutations.items():
            if name not in known:
                raise UsageError(f'there is no group "{name}" to permute')
            size = known[name].size
            if not torch.equal(permutation.cpu().sort().values, torch.arange(size)):
                raise UsageError(f'"{name}" needs a permutation of {size} units')
        result = dict(state)
        for group in self.groups:
            if group.name in permutations:
                permutation = permutations[group.name].cpu()
                if torch.equal(permutation, torch.arange(group.size)):
                    continue
                for axis in group.axes:
                    result[axis.tensor] = permuted(result[axis.tensor], axis, permutation)
        return result

    def compose(self, permutations: Permutations, further: Permutations) -> dict[str, Tensor]:
        """Return the permutations that do what all of the first and then the further ones do.

        What was ordered within a block goes where the block goes.
        """
        sources = {(group.family, group.block): group.name for group in self.groups}
        result = {}
        for group in self.groups:
            source = group.name
            if group.parent is not None and group.parent in further:
                source = sources[group.family, int(further[group.parent][group.block])]
            result[group.name] = permutations[source]
            if group.name in further:
                result[group.name] = result[group.name][further[group.name]]
        return result

    def check(self, state: Mapping[str, Tensor], label: str = "the state dict") -> None:
        """Raise UsageError unless a state dict has all tensors that are permuted, in shape."""
        problems = []
        for name in dict.fromkeys(axis.tensor for group in self.groups for axis in group.axes):
            if name not in state:
                problems.append(f'"{name}" is missing')
            elif tuple(state[name].shape) != self.shapes[name]:
                found = "x".join(map(str, state[name].shape))
                wanted = "x".join(map(str, self.shapes[name]))
                problems.append(f'"{name}" has the shape {found}, not {wanted}')
        if problems:
            more = f"\n  and {len(problems) - 10} more" if len(problems) > 10 else ""
            raise UsageError(
                f"{label} is not of the network that was traced:\n  "
                + "\n  ".join(problems[:10])
                + more
            )


INPUT = "it reads what the network is given"
OUTPUT = "it makes what the network returns"
POSITION = "positions in space or time"


def index(shape: tuple[int, ...], axis: Axis, permutation: Tensor) -> Tensor:
    """Return which old index stands at each new index of the axis."""
    where = torch.arange(shape[axis.axis])
    stop = axis.start + axis.outer * len(permutation) * axis.inner
    stretch = where[axis.start : stop].view(axis.outer, len(permutation), axis.inner)
    where[axis.start : stop] = stretch[:, permutation].reshape(-1)
    return where


def permuted(x: Tensor, axis: Axis, permutation: Tensor) -> Tensor:
    """Return the tensor with the units along one axis in another order."""
    where = index(tuple(x.shape), axis, permutation)
    return x.index_select(axis.axis, where.to(x.device))


def unit_rows(x: Tensor, axis: Axis, size: int) -> Tensor:
    """Return (size, -1), a row of all entries of each unit."""
    long = axis.outer * size * axis.inner
    stretch = x.movedim(axis.axis, 0)[axis.start : axis.start + long]
    shaped = stretch.reshape(axis.outer, size, axis.inner, -1)
    return shaped.movedim(1, 0).reshape(size, -1)
