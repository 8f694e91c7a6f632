"""Permutations being improved, one group of units at a time, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.merge.method import Weights
from thalweg.merge.permutations.structure import Axis, Group, Structure, permuted, unit_rows

_NO_WEIGHTS = ("running_mean", "running_var")


@dataclass(frozen=True)
class Matching:
    r"""Permutations that bring one network near to another.

    Attributes:
        permutations: by the groups' names: unit i of the first network is matched with unit p[i]
            of the second, so that ``structure.apply(second, permutations)`` is near to the first.
        objective: what was maximised, after each improvement, from the start on; of activations,
            before and after; of straight-through matching, less the loss of each batch.
        start: which start led to the best.
        passes: how often the groups were gone through from it.
    """

    permutations: dict[str, Tensor]
    objective: tuple[float, ...]
    start: str
    passes: int


def assignment(similarity: Tensor) -> Tensor:
    """Return the permutation p with the largest sum of similarity[i, p[i]]."""
    from scipy.optimize import linear_sum_assignment

    _, columns = linear_sum_assignment(similarity.double().cpu().numpy(), maximize=True)
    return torch.from_numpy(columns).long()


def moved_share(structure: Structure, permutations: Mapping[str, Tensor]) -> float:
    """Return the share of units that change places, each counted once."""
    moved = total = 0
    for group in structure.groups:
        if group.kind == "blocks" and structure.within(group):
            continue
        permutation = permutations[group.name]
        stays = permutation == torch.arange(group.size)
        if group.parent is not None and permutations[group.parent][group.block] != group.block:
            stays = torch.zeros_like(stays)
        moved += int((~stays).sum())
        total += group.size
    return moved / total if total else 0.0


def distance(one: Weights, other: Weights) -> float:
    """Return the Euclidean distance of two networks' weights, statistics of norms left out."""
    square = sum(
        float((one[name].double() - other[name].double()).square().sum())
        for name in weight_names(one)
        if name in other
    )
    return square**0.5


def weight_names(state: Weights) -> list[str]:
    """Return the names of what is a weight: floats that are no running statistics."""
    return [
        name
        for name, x in state.items()
        if x.is_floating_point() and name.rpartition(".")[2] not in _NO_WEIGHTS
    ]


class State:
    """Two networks' weights in float64, the second's in the order found so far.

    Args:
        structure: of both.
        first: weights that stay.
        second: weights that are permuted.
        permutations: to start from; the identity unless given.
    """

    def __init__(
        self,
        structure: Structure,
        first: Weights,
        second: Weights,
        permutations: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.structure = structure
        names = {axis.tensor for group in structure.groups for axis in group.axes}
        names &= set(weight_names(first)) & set(weight_names(second))
        self._names = sorted(names - set(structure.tied))
        self.permutations = dict(permutations or structure.identity())
        self.first = {n: first[n].detach().double().cpu() for n in self._names}
        own = structure.apply(second, self.permutations)
        self.second = {n: own[n].detach().double().cpu() for n in self._names}

    def axes(self, group: Group) -> list[Axis]:
        """Return a group's axes in weights, of tied ones only the first."""
        return [axis for axis in group.axes if axis.tensor in self.first]

    def objective(self) -> float:
        r"""Return :math:`\\sum \\langle W_A, P(W_B) \\rangle` over tensors that can move."""
        return self._inner(self._names)

    def rows(self, group: Group, axis: Axis) -> tuple[Tensor, Tensor]:
        """Return both networks' entries of each unit on an axis, (size, entries)."""
        return (
            unit_rows(self.first[axis.tensor], axis, group.size),
            unit_rows(self.second[axis.tensor], axis, group.size),
        )

    def move(self, permutations: Mapping[str, Tensor]) -> bool:
        """Permute further; leave all as it was and return False if that does not help.

        The objective is linear in the permutation of a group unless a tensor has its units along
        two axes; only then can the assignment's promise be wrong.
        """
        chosen = [group for group in self.structure.groups if group.name in permutations]
        numbers: dict[str, set[int]] = {}
        for axis in (axis for group in chosen for axis in self.axes(group)):
            numbers.setdefault(axis.tensor, set()).add(axis.axis)
        doubtful = any(len(axes) > 1 for axes in numbers.values())
        before = {name: self.second[name] for name in numbers}
        old = self._inner(numbers) if doubtful else 0.0
        here = self.permutations
        self.put(permutations)
        if doubtful and self._inner(numbers) <= old + 1e-12 * abs(old):
            self.second.update(before)
            self.permutations = here
            return False
        return True

    def put(self, permutations: Mapping[str, Tensor]) -> None:
        """Permute further, whatever becomes of the objective."""
        for group in self.structure.groups:
            for axis in self.axes(group) if group.name in permutations else ():
                self.second[axis.tensor] = permuted(
                    self.second[axis.tensor], axis, permutations[group.name]
                )
        self.permutations = self.structure.compose(self.permutations, permutations)

    def _inner(self, names: Iterable[str]) -> float:
        pairs = ((self.first[name].flatten(), self.second[name].flatten()) for name in names)
        return sum(float(torch.dot(one, other)) for one, other in pairs)
