"""Git Re-Basin: one network is brought into the order of units of another."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, get_args

from thalweg.core.checks import check_choice
from thalweg.merge.method import Weights
from thalweg.merge.permutations.activation_matching import activation_matching
from thalweg.merge.permutations.discover import example_of, structure_of
from thalweg.merge.permutations.matching import Matching
from thalweg.merge.permutations.straight_through import straight_through
from thalweg.merge.permutations.structure import Structure
from thalweg.merge.permutations.trace import run
from thalweg.merge.permutations.verification import verify_call
from thalweg.merge.permutations.weight_matching import weight_matching

if TYPE_CHECKING:
    from thalweg.landscape import Objective

By = Literal["weights", "activations", "straight-through"]


def align(
    objective: Objective,
    first: Weights,
    second: Weights,
    by: By = "weights",
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Structure, Matching]:
    """Return a network's structure, checked, and the permutations that align two state dicts.

    ``structure.apply(second, matching.permutations)`` is the second network in the first one's
    order, with the same function.

    Args:
        objective: the loss on training data, with the network; left as it was.
        first: a state dict, which stays.
        second: another, to be permuted.
        by: "weights", "activations" or "straight-through"; see the functions of these names.
        seed: of all orders.
        progress: told how many of how many steps are done, by "straight-through".

    Raises:
        UsageError: an unknown way, or as `discover`, `verify` and the way's function.
    """
    check_choice("by", by, get_args(By))
    structure = checked_structure(objective)
    if by == "activations":
        return structure, activation_matching(objective, structure, first, second)
    if by == "straight-through":
        found = straight_through(objective, structure, first, second, seed=seed, progress=progress)
        return structure, found
    return structure, weight_matching(structure, first, second, seed=seed)


def checked_structure(objective: Objective) -> Structure:
    """Return the structure of an objective's network, after `verify` tried it.

    Raises:
        UsageError: as `discover` and `verify`.
    """
    args, kwargs = example_of(objective)
    structure = structure_of(run(objective.module, args, kwargs), objective.module)
    verify_call(objective.module, structure, args, kwargs)
    return structure
