"""Weight matching: units with like weights are the same units."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from thalweg.core.checks import check_whole
from thalweg.core.errors import UsageError
from thalweg.core.seeds import generator
from thalweg.merge.method import Weights
from thalweg.merge.permutations.matching import Matching, State, assignment
from thalweg.merge.permutations.structure import Axis, Group, Structure

_LEAST = 1e-12  # of an improvement, relative to the objective


def weight_matching(
    structure: Structure,
    first: Weights,
    second: Weights,
    *,
    start: Mapping[str, Tensor] | None = None,
    restarts: int = 0,
    passes: int = 100,
    seed: int = 0,
) -> Matching:
    r"""Return the permutations that bring the second network's weights near to the first's.

    Maximises :math:`\sum_W \langle W_A, P(W_B) \rangle`, which is minimising
    :math:`\|\theta_A - P(\theta_B)\|`, over all tensors that can be permuted but the running
    statistics of norms. One group at a time, in random order, with all others held: that is a
    linear assignment, solved exactly; blocks (attention heads) and the units within them are
    solved together, an assignment of blocks over assignments within. It ends when no group
    improves. The objective never falls. Ainsworth, Hayase & Srinivasa, "Git Re-Basin: Merging
    Models modulo Permutation Symmetries", ICLR 2023, arXiv:2209.04836, algorithm 1.

    Difference from the paper: it starts from the identity, this also from the units matched by
    their weights sorted by size, which no permutation of other units changes, and keeps what ends
    higher. So a network that is a permutation of the other is recovered exactly, at any depth,
    unless units have equal weights.

    Args:
        structure: of both.
        first: a state dict.
        second: another, to be permuted.
        start: permutations to start from, in place of the identity and the sorted weights.
        restarts: further starts, from random permutations.
        passes: over all groups at most, from each start.
        seed: of the order of groups and of random starts.

    Raises:
        UsageError: state dicts that are not of this network, or with entries that are not finite.
    """
    check_whole("restarts", restarts, 0)
    check_whole("passes", passes, 1)
    check_pair(structure, first, second)
    starts: dict[str, Mapping[str, Tensor] | None] = {"identity": None, "sorted weights": None}
    if start is not None:
        starts = {"given": start}
    starts |= {f"random {i + 1}": structure.random(seed + i) for i in range(restarts)}
    best: Matching | None = None
    for name, permutations in starts.items():
        state = State(structure, first, second, permutations)
        if name == "sorted weights":
            _match_sorted(state)
        found = _descend(state, name, passes, seed)
        if best is None or found.objective[-1] > best.objective[-1] + _LEAST * abs(
            best.objective[-1]
        ):
            best = found
    assert best is not None
    return best


def check_pair(structure: Structure, *models: Weights) -> None:
    """Raise UsageError unless state dicts are of the network and finite."""
    for place, model in enumerate(models, 1):
        structure.check(model, f"network {place}")
        for name, x in model.items():
            wide = x.float() if x.dtype.itemsize == 1 else x  # of 8 bits none is asked
            if x.is_floating_point() and not bool(torch.isfinite(wide).all()):
                raise UsageError(
                    f'"{name}" in network {place} has entries that are not finite; no unit can be '
                    "matched by them"
                )


def _descend(state: State, name: str, passes: int, seed: int) -> Matching:
    groups = [g for g in state.structure.groups if g.parent is None]
    draw = generator(seed, "merge", "weight matching")
    objective = [state.objective()]
    done = 0
    for _ in range(passes):
        done += 1
        improved = False
        for place in torch.randperm(len(groups), generator=draw).tolist():
            scale = abs(objective[-1]) or 1.0
            gain, permutations = _best(state, groups[place])
            if gain > _LEAST * scale and state.move(permutations):
                objective.append(state.objective())
                improved = True
        if not improved:
            break
    return Matching(state.permutations, tuple(objective), name, done)


def _best(state: State, group: Group) -> tuple[float, dict[str, Tensor]]:
    """Return a group's best permutation with all others held, and what it gains."""
    families = families_of(state.structure, group)
    covered = [axis for family in families for one in family for axis in one.axes]
    own = [axis for axis in state.axes(group) if not any(_holds(axis, one) for one in covered)]
    total = torch.zeros(group.size, group.size, dtype=torch.float64)
    for axis in own:
        left, right = state.rows(group, axis)
        total += left @ right.mT
    here = float(total.diagonal().sum())
    inner: list[dict[tuple[int, int], Tensor]] = []
    for family in families:
        similarity = _between_blocks(state, family)
        here += float(similarity.diagonal(dim1=0, dim2=1).diagonal(dim1=0, dim2=1).sum())
        inner.append({})
        for i, j in itertools.product(range(group.size), repeat=2):
            inner[-1][i, j] = found = assignment(similarity[i, j])
            total[i, j] += similarity[i, j].gather(1, found[:, None]).sum()
    chosen = assignment(total)
    permutations = {group.name: chosen}
    for family, found in zip(families, inner, strict=True):
        permutations |= {one.name: found[one.block, int(chosen[one.block])] for one in family}
    return float(total.gather(1, chosen[:, None]).sum()) - here, permutations


def families_of(structure: Structure, group: Group) -> list[list[Group]]:
    """Return the groups within a group's blocks, by family, in the order of the blocks."""
    found: dict[str | None, list[Group]] = {}
    for one in structure.within(group):
        found.setdefault(one.family, []).append(one)
    return [sorted(family, key=lambda one: one.block) for family in found.values()]


def _between_blocks(state: State, family: Sequence[Group]) -> Tensor:
    """Return the similarity of all units, (blocks, blocks, units, units)."""
    blocks, size = len(family), family[0].size
    total = torch.zeros(blocks * size, blocks * size, dtype=torch.float64)
    for each in zip(*(state.axes(one) for one in family), strict=True):
        pairs = [state.rows(one, axis) for one, axis in zip(family, each, strict=True)]
        total += torch.cat([a for a, _ in pairs]) @ torch.cat([b for _, b in pairs]).mT
    return total.view(blocks, size, blocks, size).transpose(1, 2)


def _holds(outer: Axis, within: Axis) -> bool:
    """Return whether an axis of blocks has the entries of an axis within the first block."""
    return (outer.tensor, outer.axis, outer.start) == (within.tensor, within.axis, within.start)


def _match_sorted(state: State) -> None:
    """Match units by their sorted weights, blocks before what is within them."""
    for group in state.structure.groups:
        total = torch.zeros(group.size, group.size, dtype=torch.float64)
        for axis in state.axes(group):
            left, right = (rows.sort(1).values for rows in state.rows(group, axis))
            total += left @ right.mT
        permutation = assignment(total)
        here = float(total.diagonal().sum())
        if float(total.gather(1, permutation[:, None]).sum()) > here + _LEAST * abs(here):
            state.put({group.name: permutation})


def merge_many(
    structure: Structure, models: Sequence[Weights], *, passes: int = 100, seed: int = 0
) -> list[dict[str, Tensor]]:
    r"""Return the permutations that bring several networks near to their mean.

    Each in turn, in random order, is matched with the mean of all others, until a whole round
    moves none; of two, the second with the first. The sum of squared distances to the mean never
    grows. Ainsworth, Hayase & Srinivasa, 2023, algorithm 3 (MergeMany).

    Args:
        structure: of all.
        models: state dicts.
        passes: rounds over the networks at most, and passes of each matching.
        seed: of all orders.

    Raises:
        UsageError: as `weight_matching`.
    """
    check_pair(structure, *models)
    orders = [structure.identity() for _ in models]
    if len(models) == 2:
        orders[1] = weight_matching(structure, *models, passes=passes, seed=seed).permutations
        return orders
    found = [dict(model) for model in models]
    draw = generator(seed, "merge", "merge many")
    names = {axis.tensor for group in structure.groups for axis in group.axes}
    for turn in range(passes):
        improved = False
        for i in torch.randperm(len(models), generator=draw).tolist():
            others = [found[j] for j in range(len(models)) if j != i]
            mean = {n: torch.stack([o[n].double() for o in others]).mean(0) for n in names}
            here = float(State(structure, mean, found[i]).objective())
            # After the first round every network has a place, which is the better start.
            start = orders[i] if turn else None
            matched = weight_matching(
                structure, mean, models[i], start=start, passes=passes, seed=seed
            )
            if matched.objective[-1] > here + _LEAST * abs(here):
                improved = True
                orders[i] = matched.permutations
                found[i] = structure.apply(models[i], orders[i])
        if not improved:
            break
    return orders
