"""Merges across permutations by name, with the network and the data of an objective."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from thalweg.core.batch_norm import recalibrate_batch_norm
from thalweg.core.checks import check_choice, check_flag, check_whole
from thalweg.core.errors import UsageError
from thalweg.core.shares import check_weights
from thalweg.merge.method import Evidence, Merge, Weights, mean
from thalweg.merge.permutations.plans import Marginals, TransportSettings
from thalweg.merge.permutations.rebasin import By, align, checked_structure
from thalweg.merge.permutations.repair import preactivations, repair
from thalweg.merge.permutations.transport import fuse, transport
from thalweg.merge.permutations.weight_matching import merge_many
from thalweg.merge.whole import WholeMerge

if TYPE_CHECKING:
    from thalweg.landscape import Objective


@dataclass(frozen=True)
class GitRebasin(WholeMerge):
    r"""The mean of networks whose units were matched first.

    Networks that were trained from different starts compute alike with their units in different
    orders. :math:`\frac 1 n \sum_i P_i(w_i)`: each network permuted to be near to the first, or,
    of more than two, to the mean of the others in turn. The permutations that leave the function
    alone are found from a run of the model (`discover`) and tried (`verify`) before use.
    Batch-norm statistics are recomputed on training samples. Ainsworth, Hayase & Srinivasa, "Git
    Re-Basin: Merging Models modulo Permutation Symmetries", ICLR 2023, arXiv:2209.04836.

    Args:
        by: "weights", "activations" or "straight-through"; the latter two are for two networks.
        weights: one a model, for the mean; equal unless given.
        repair: whether the result is repaired (`thalweg.merge.permutations.repair`).
        seed: of all orders.

    Raises:
        UsageError: impossible settings.
    """

    least: ClassVar[int] = 2

    by: By = "weights"
    weights: tuple[float, ...] | None = None
    repair: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("git-rebasin: by", self.by, get_args(By))
        object.__setattr__(self, "weights", check_weights("git-rebasin: weights", self.weights))
        check_flag("git-rebasin: repair", self.repair)
        check_whole("git-rebasin: seed", self.seed, least=0)

    def check(self, count: int) -> None:
        """Raise UsageError unless the settings serve so many models."""
        super().check(count)
        if count > 2 and self.by != "weights":
            raise UsageError(f'git-rebasin by "{self.by}" takes two models, found {count}')

    def make(self, models: Sequence[Weights], evidence: Evidence) -> Weights:
        """Return the mean of the models with their units in one order."""
        assert evidence.objective is not None
        if len(models) == 2:
            one, other = models
            structure, found = align(evidence.objective, one, other, self.by, seed=self.seed)
            ordered = [one, structure.apply(other, found.permutations)]
        else:
            structure = checked_structure(evidence.objective)
            orders = merge_many(structure, models, seed=self.seed)
            ordered = [structure.apply(w, p) for w, p in zip(models, orders, strict=True)]
        merged = {
            name: mean([each[name] for each in ordered], self.weights).to(x)
            if x.is_floating_point()
            else x
            for name, x in ordered[0].items()
        }
        if not self.repair:
            return reset(evidence.objective, merged)
        ends = [preactivations(evidence.objective, each) for each in ordered]
        return repair(evidence.objective, merged, ends, self.weights)


@dataclass(frozen=True)
class OTFusion(WholeMerge):
    r"""Fusion by optimal transport: units are matched softly with one model's, then averaged.

    See `thalweg.merge.permutations.transport.fuse`, which also fuses networks of different widths.
    Batch-norm statistics are recomputed on training samples. Singh & Jaggi, "Model Fusion via
    Optimal Transport", NeurIPS 2020, arXiv:1910.05653.

    Args:
        by: "weights" or "activations".
        solver: "exact" or "sinkhorn".
        reg: of Sinkhorn, in units of the mean distance.
        marginals: "proper" or "constant"; the same between models of one shape, but for rounding.
        past_correction: whether averaged weights go through the plan of the layer before, too.
        reference: the place of the model whose order of units is kept; -1 is the last.
        weights: one a model, for the mean; equal unless given.
        samples: training samples that activations are compared on.
        repair: whether the result is repaired (`thalweg.merge.permutations.repair`).

    Raises:
        UsageError: impossible settings.
    """

    by: Literal["weights", "activations"] = "weights"
    solver: Literal["exact", "sinkhorn"] = "exact"
    reg: float = 1e-2
    marginals: Marginals = "proper"
    past_correction: bool = True
    reference: int = -1
    weights: tuple[float, ...] | None = None
    samples: int = 200
    repair: bool = False

    def __post_init__(self) -> None:
        self._settings()
        object.__setattr__(self, "weights", check_weights("ot-fusion: weights", self.weights))
        check_whole("ot-fusion: samples", self.samples, least=1)
        check_flag("ot-fusion: repair", self.repair)
        if isinstance(self.reference, bool) or not isinstance(self.reference, int):
            raise UsageError(f"ot-fusion: reference must be a place, found {self.reference!r}")

    def _settings(self) -> TransportSettings:
        return TransportSettings(
            self.by, self.solver, self.reg, self.marginals, self.past_correction
        )

    def make(self, models: Sequence[Weights], evidence: Evidence) -> Weights:
        """Return the fused weights."""
        assert evidence.objective is not None
        objective, settings = evidence.objective, self._settings()
        networks = [network(objective, weights) for weights in models]
        x = examples(objective, self.samples)
        fused = fuse(networks, x, weights=self.weights, reference=self.reference, settings=settings)
        if not self.repair:
            return reset(objective, fused)
        anchor = networks[self.reference]
        ends = []
        for one, weights in zip(networks, models, strict=True):
            moments = preactivations(objective, weights)
            if one is not anchor:
                moments = transport(one, anchor, x, settings).moments(moments)
            ends.append(moments)
        return repair(objective, fused, ends, self.weights)


@dataclass(frozen=True)
class Repaired(WholeMerge):
    """REPAIR after another merge: units get the mean spread of the models' own units back.

    See `thalweg.merge.permutations.repair`. The models' units must correspond, as those of one
    ancestor do; merges that match them first have a setting ``repair`` instead. Jordan et al.,
    "REPAIR: REnormalizing Permuted Activations for Interpolation Repair", ICLR 2023,
    arXiv:2211.08403.

    Args:
        after: the merge that goes before.

    Raises:
        UsageError: a merge that needs a base or statistics, or one that matches units.
    """

    after: str | Merge = "model-soups"

    def __post_init__(self) -> None:
        first = self.first
        if first.needs_base or first.needs_statistics:
            raise UsageError(
                f'repair cannot follow "{self.after}", which needs a base or statistics'
            )
        if isinstance(first, WholeMerge):
            raise UsageError(f'repair cannot follow "{self.after}"; set repair=True in it')

    @cached_property
    def first(self) -> Merge:
        """Return the merge that goes before."""
        from thalweg.merge.catalogue import named

        return named(self.after)

    def check(self, count: int) -> None:
        """Raise UsageError unless the other merge takes so many models."""
        super().check(count)
        self.first.check(count)

    def make(self, models: Sequence[Weights], evidence: Evidence) -> Weights:
        """Return the repaired weights."""
        from thalweg.merge.merging import chosen, merge

        assert evidence.objective is not None
        method = chosen(self.first, models, evidence)
        merged = merge(method, models)
        ends = [preactivations(evidence.objective, weights) for weights in models]
        return repair(evidence.objective, merged, ends, method.plain_weights())


def network(objective: Objective, weights: Weights) -> nn.Module:
    """Return a copy of an objective's network with other weights.

    Raises:
        UsageError: weights that are not the network's.
    """
    model = copy.deepcopy(objective.module)
    try:
        model.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise UsageError(f"these are not the model's weights: {error}") from None
    return model


def reset(objective: Objective, weights: Weights) -> Weights:
    """Return weights with batch-norm statistics of the calibration batches."""
    model = network(objective, weights)
    recalibrate_batch_norm(model, objective.calibration, objective.loss)
    return model.state_dict()


def examples(objective: Objective, samples: int) -> Any:
    """Return what the loss calls its model with on some calibration samples, as one example.

    Raises:
        UsageError: the loss does not call the model, or calls it with something else each time.
    """
    seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    hook = objective.module.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((args, kwargs)), with_kwargs=True
    )
    try:
        with objective.differentiable(), torch.no_grad():
            for batch in objective.calibration:
                objective.loss(objective.module, batch)
                if sum(_count(call) for call in seen) >= samples:
                    break
    finally:
        hook.remove()
    if not seen:
        raise UsageError("the loss does not call the model, so its structure cannot be found")

    def joined(*each: Any) -> Any:
        if isinstance(each[0], Tensor) and each[0].ndim:
            return torch.cat(each)[:samples]
        return each[0]

    try:
        args, kwargs = tree_map(joined, *seen)
    except (ValueError, RuntimeError) as error:
        raise UsageError(
            f"the loss does not call the model alike on all batches: {error}"
        ) from None
    if args and kwargs:
        raise UsageError("the loss calls the model with positional arguments and keywords; use one")
    return args or kwargs


def _count(call: tuple[tuple[Any, ...], dict[str, Any]]) -> int:
    args, kwargs = call
    first = next(x for x in (*args, *kwargs.values()) if isinstance(x, Tensor))
    return len(first)
