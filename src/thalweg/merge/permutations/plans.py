"""Plans that carry one network's units, weights and all, to the places of another's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from thalweg.core.checks import check_choice, check_flag, check_number, check_whole
from thalweg.merge.method import Weights
from thalweg.merge.permutations.moments import Moments
from thalweg.merge.permutations.structure import Axis, Group

Marginals = Literal["proper", "constant"]


@dataclass(frozen=True)
class TransportSettings:
    r"""How units are transported; the paper's settings unless given.

    Attributes:
        by: what units are compared by: "weights", the weights and biases that make them, or
            "activations", what they put out before the nonlinearity on the examples.
        solver: "exact" (network simplex) or "sinkhorn".
        reg: the entropic regularisation of Sinkhorn, in units of the mean distance.
        marginals: what plans are normalised by. "proper": their column sums, so that a new unit is
            a mean of units, and what reads it a mean of what read them (the paper). "constant":
            :math:`1 / n_A`, another scale where widths differ (the authors' code unless
            ``--proper-marginals``).
        past_correction: whether the weights that are averaged go through the plan of the layer
            before, too; without, widths must be equal (the authors' code unless
            ``--past-correction``, which all their published commands have).
        passes: over groups that other groups make and that make these (residual streams), at
            most; other networks need one.

    Raises:
        UsageError: impossible settings.
    """

    by: Literal["weights", "activations"] = "weights"
    solver: Literal["exact", "sinkhorn"] = "exact"
    reg: float = 1e-2
    marginals: Marginals = "proper"
    past_correction: bool = True
    passes: int = 10

    def __post_init__(self) -> None:
        check_choice("transport: by", self.by, ("weights", "activations"))
        check_choice("transport: solver", self.solver, ("exact", "sinkhorn"))
        check_number("transport: reg", self.reg, "(0, inf)")
        check_choice("transport: marginals", self.marginals, get_args(Marginals))
        check_flag("transport: past_correction", self.past_correction)
        check_whole("transport: passes", self.passes, least=1)


@dataclass(frozen=True)
class Transport:
    r"""Plans that carry one network's units to another's places.

    Attributes:
        pairs: each group of units in the network and in the reference.
        shapes: of the reference's tensors.
        settings: how it was made.
        plans: by the groups' names, (units, units of the reference), float64; entries sum to 1.
        costs: the mean distance of a unit to its place, by group.
    """

    pairs: tuple[tuple[Group, Group], ...]
    shapes: Mapping[str, tuple[int, ...]]
    settings: TransportSettings
    plans: dict[str, Tensor] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)

    def carry(self, weights: Weights) -> dict[str, Tensor]:
        """Return the network's weights in the reference's order and widths, float64.

        Biases, scales and shifts of norms, and running statistics move with their units; of
        running statistics only recomputed ones are right. What is no float is left out.
        """
        skip = () if self.settings.past_correction else ("reads",)
        return {
            name: self.carried(name, x.detach().double().cpu(), skip)
            for name, x in weights.items()
            if isinstance(x, Tensor) and x.is_floating_point()
        }

    def moments(self, statistics: Mapping[str, Moments]) -> dict[str, Moments]:
        """Return moments of the network's layers for the reference's units, for `repair`."""
        found = {}
        for layer, moments in statistics.items():
            name = f"{layer}.weight" if layer else "weight"
            own = self._pieces(name, 0)
            both = (_along(x.cpu(), own) for x in (moments.mean, moments.std))
            found[layer] = Moments(*both) if own else moments
        return found

    def _map(self, name: str) -> Tensor:
        """Return the normalised plan."""
        plan = self.plans[name]
        if self.settings.marginals == "constant":
            return plan * len(plan)
        return plan / plan.sum(0)

    def _pieces(self, tensor: str, number: int) -> list[tuple[Axis, Tensor]]:
        return [
            (axis, self._map(group.name))
            for group, _ in self.pairs
            if group.name in self.plans
            for axis in group.axes
            if (axis.tensor, axis.axis) == (tensor, number)
        ]

    def carried(
        self, name: str, x: Tensor, skip: Iterable[str] = (), but: int | None = None
    ) -> Tensor:
        """Carry a tensor along its axes, those of some roles or one of them left out."""
        for number in range(x.ndim):
            pieces = [piece for piece in self._pieces(name, number) if piece[0].role not in skip]
            if pieces and number != but:
                x = _along(x.movedim(number, 0), pieces).movedim(0, number)
        return x


def _along(x: Tensor, pieces: Sequence[tuple[Axis, Tensor]]) -> Tensor:
    """Carry the stretches of units along the first axis; what is between them stays."""
    parts, at = [], 0
    for own, plan in sorted(pieces, key=lambda piece: piece[0].start):
        rows = own.outer * len(plan) * own.inner
        parts.append(x[at : own.start])
        block = x[own.start : own.start + rows].reshape(own.outer, len(plan), -1)
        parts.append((plan.mT @ block).reshape(-1, *x.shape[1:]))
        at = own.start + rows
    parts.append(x[at:])
    return torch.cat(parts)
