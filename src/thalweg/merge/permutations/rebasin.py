"""Git Re-Basin: networks are brought into one order of units, and then averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from torch import Tensor

from thalweg.core.checks import check_choice, check_whole
from thalweg.core.errors import UsageError
from thalweg.core.shares import check_weights
from thalweg.merge.method import Evidence, Merge, Piece, Weights, mean
from thalweg.merge.permutations.activation_matching import activation_matching
from thalweg.merge.permutations.discover import example_of, structure_of
from thalweg.merge.permutations.matching import Matching
from thalweg.merge.permutations.straight_through import straight_through
from thalweg.merge.permutations.structure import Structure, permuted
from thalweg.merge.permutations.trace import run
from thalweg.merge.permutations.verification import verify_call
from thalweg.merge.permutations.weight_matching import merge_many, weight_matching

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


@dataclass(frozen=True)
class GitRebasin(Merge):
    r"""The mean of networks whose units were matched first.

    Networks that were trained from different starts compute alike with their units in different
    orders. :math:`\frac 1 n \sum_i P_i(w_i)`: each network permuted to be near to the first, or,
    of more than two, to the mean of the others in turn. The permutations that leave the function
    alone are found from a run of the model (`discover`) and tried (`verify`) before use.
    Ainsworth, Hayase & Srinivasa, "Git Re-Basin: Merging Models modulo Permutation Symmetries",
    ICLR 2023, arXiv:2209.04836.

    Batch-norm statistics belong to none of the networks afterwards: recompute them
    (`thalweg.average.recalibrate_batch_norm`), or `thalweg.merge.permutations.repair` the result.

    Args:
        by: "weights", "activations" or "straight-through"; the latter two are for two networks.
        weights: one a network, equal unless given.
        seed: of all orders.

    Raises:
        UsageError: an impossible setting.
    """

    chooses: ClassVar[Literal["score", "objective"] | None] = "objective"
    least: ClassVar[int] = 2

    by: By = "weights"
    weights: tuple[float, ...] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("git-rebasin: by", self.by, get_args(By))
        object.__setattr__(self, "weights", check_weights("git-rebasin: weights", self.weights))
        check_whole("git-rebasin: seed", self.seed, 0)

    def check(self, count: int) -> None:
        """Raise UsageError unless the settings serve so many models."""
        super().check(count)
        if count > 2 and self.by != "weights":
            raise UsageError(f'git-rebasin by "{self.by}" takes two models, found {count}')

    def choose(self, models: Sequence[Weights], evidence: Evidence) -> Merge:
        """Return the mean of the models with their units in one order."""
        assert evidence.objective is not None
        if len(models) == 2:
            one, other = models
            structure, found = align(evidence.objective, one, other, self.by, seed=self.seed)
            orders = [structure.identity(), found.permutations]
        else:
            structure = checked_structure(evidence.objective)
            orders = merge_many(structure, models, seed=self.seed)
        return _Ordered(self.weights, structure, tuple(orders))

    def combine(self, piece: Piece, measured: None) -> Tensor:
        """Never called: `choose` returns what is carried out."""
        raise AssertionError("units are matched first")


@dataclass(frozen=True)
class _Ordered(Merge):
    """The mean of models whose units are put in order."""

    reads: ClassVar[Literal["element", "tensor"]] = "tensor"

    weights: tuple[float, ...] | None
    structure: Structure
    orders: tuple[dict[str, Tensor], ...]

    def combine(self, piece: Piece, measured: None) -> Tensor:
        """Return the mean of one tensor."""
        del measured
        ordered = []
        for x, order in zip(piece.models, self.orders, strict=True):
            for group in self.structure.groups:
                for axis in group.axes:
                    if axis.tensor == piece.name:
                        x = permuted(x, axis, order[group.name])
            ordered.append(x)
        return mean(ordered, self.weights)
