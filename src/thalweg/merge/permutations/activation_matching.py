"""Activation matching: units that answer alike to the same data are the same units."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from thalweg.core.checks import check_choice
from thalweg.merge.method import Weights
from thalweg.merge.permutations.matching import Matching, assignment
from thalweg.merge.permutations.repair import running
from thalweg.merge.permutations.structure import Axis, Group, Structure
from thalweg.merge.permutations.unit_activations import Site, recorded
from thalweg.merge.permutations.weight_matching import check_pair

if TYPE_CHECKING:
    from thalweg.landscape import Objective


def activation_matching(
    objective: Objective,
    structure: Structure,
    first: Weights,
    second: Weights,
    *,
    by: Literal["moment", "correlation"] = "moment",
) -> Matching:
    r"""Return the permutations under which two networks' units answer most alike.

    For each group the assignment that maximises :math:`\langle P, E[z_A z_B^T] \rangle`, z what
    the layers that read the units are given, after the nonlinearity, over all samples and
    positions of ``objective.calibration``. Groups do not depend on each other. Norms of units do
    not change under permutations, so that is least squares of :math:`z_A - P z_B`. Ainsworth,
    Hayase & Srinivasa, "Git Re-Basin", ICLR 2023, arXiv:2209.04836, section 3.1; by
    "correlation", of centred and scaled units, as in Li et al., 2016, arXiv:1511.07543.

    Attention heads, groups of group norms and what is in them keep their order: `weight_matching`
    moves these.

    Args:
        objective: the loss on training data.
        structure: of the network.
        first: a state dict.
        second: another, to be permuted.
        by: "moment" or "correlation".

    Raises:
        UsageError: state dicts that are not of this network or not finite, or units that no
            linear layer or convolution reads.
    """
    check_choice("by", by, ("moment", "correlation"))
    check_pair(structure, first, second)
    groups = [group for group in structure.groups if group.kind == "units"]
    readers = {group.name: _readers(objective.module, group) for group in groups}
    sums: dict[str, _Sums] = {}
    for batch in objective.calibration:
        seen = []
        for weights in (first, second):
            with running(objective, weights):
                call = partial(objective.loss, objective.module, batch)
                seen.append(recorded(groups, readers, "inputs", call))
        for group in groups:
            a, b = (each[group.name] for each in seen)
            sums[group.name] = _Sums.of(a, b) + sums.get(group.name)
    permutations = structure.identity()
    before = after = 0.0
    for group in groups:
        similarity = sums[group.name].similarity(by)
        permutations[group.name] = found = assignment(similarity)
        before += float(similarity.diagonal().sum())
        after += float(similarity.gather(1, found[:, None]).sum())
    return Matching(permutations, (before, after), "activations", 1)


@dataclass(frozen=True)
class _Sums:
    """Sums over values of two networks' units."""

    products: Tensor
    a: Tensor
    b: Tensor
    aa: Tensor
    bb: Tensor
    count: int

    @classmethod
    def of(cls, a: Tensor, b: Tensor) -> _Sums:
        squares = a.square().sum(1), b.square().sum(1)
        return cls(a @ b.mT, a.sum(1), b.sum(1), *squares, a.shape[1])

    def __add__(self, other: _Sums | None) -> _Sums:
        if other is None:
            return self
        pairs = zip(astuple(self), astuple(other), strict=True)
        return _Sums(*(x + y for x, y in pairs))

    def similarity(self, by: str) -> Tensor:
        if by == "moment":
            return self.products / self.count
        a, b = self.a / self.count, self.b / self.count
        covariance = self.products / self.count - torch.outer(a, b)
        scale = torch.outer(_spread(self.aa / self.count, a), _spread(self.bb / self.count, b))
        # A unit that does not vary is like no other.
        return torch.where(scale > 0, covariance / scale.where(scale > 0, 1.0), 0.0)


def _spread(squares: Tensor, mean: Tensor) -> Tensor:
    """Return standard deviations; 0 where rounding leaves no more of them."""
    std = (squares - mean.square()).clamp_min(0).sqrt()
    return torch.where(std > 1e-6 * mean.abs(), std, 0.0)


def _readers(module: nn.Module, group: Group) -> list[Site]:
    """Return the layers that read a group's units, and where these are in what they are given."""
    found: list[Site] = []
    for axis in group.consumers:
        name, _, tensor = axis.tensor.rpartition(".")
        layer = module.get_submodule(name)
        if tensor != "weight":
            continue
        if isinstance(layer, nn.Linear):
            place = -1
        elif isinstance(layer, _ConvNd) and layer.groups == 1:
            if axis.axis != (0 if isinstance(layer, _ConvTransposeNd) else 1):
                continue
            place = -1 - len(layer.kernel_size)
        else:
            continue
        found.append((layer, Axis(axis.tensor, place, axis.start, axis.outer, axis.inner)))
    return found
