"""Fusion by optimal transport: units are matched softly, also between networks of other widths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.core.shares import check_weights
from thalweg.merge.method import mean
from thalweg.merge.permutations.discover import discover
from thalweg.merge.permutations.plans import Transport, TransportSettings
from thalweg.merge.permutations.structure import Axis, Group, Structure, unit_rows
from thalweg.merge.permutations.unit_activations import unit_activations

_STATISTICS = ("running_mean", "running_var")


def transport(
    model: nn.Module,
    reference: nn.Module,
    example: Any,
    settings: TransportSettings | None = None,
) -> Transport:
    r"""Return the plans that bring a network's units to those of a reference.

    Group by group from the input on: units i of the network and j of the reference are as far
    apart as the vectors that describe them (Euclidean, not squared), the network's weights
    carried by the plans of the groups that they read; the plan is the optimal transport with
    uniform marginals. Weights that make units are the rows of their layers, with the bias, the
    scale and the shift of a norm as further entries. Inputs and outputs keep their places, and so
    do attention heads, and groups of a group norm, with what is in them. Units that share a
    residual stream share one plan, by all layers that write to it; it is improved in turns with
    those of the blocks.

    Args:
        model: the network; left as it was.
        reference: a network of the same layers, of any widths.
        example: what both are called with, see `discover`; with ``by="activations"``, the samples
            on which units are compared, 200 in the paper.
        settings: see `TransportSettings`.

    Raises:
        UsageError: networks that differ in more than widths, units that nothing describes, or POT
            is not installed.
    """
    settings = settings or TransportSettings()
    solve = _solver(settings)
    own, its = discover(model, example), discover(reference, example)
    pairs = _paired(own, its)
    found = Transport(pairs, its.shapes, settings)
    states = [getattr(m, "_orig_mod", m).state_dict() for m in (model, reference)]
    ours, theirs = (
        {n: x.detach().double().cpu() for n, x in s.items() if x.is_floating_point()}
        for s in states
    )
    if not settings.past_correction and any(a.size != b.size for a, b in pairs):
        raise UsageError("networks of different widths cannot be fused without past_correction")
    if settings.by == "activations":
        left = unit_activations(model, own, example)
        right = unit_activations(reference, its, example)
        for group, other in pairs:
            _plan(found, group, left[group.name], right[other.name], solve)
        return found
    for turn in range(settings.passes):
        before = dict(found.plans)
        complete = _pass(found, ours, theirs, solve)
        same = turn and all(torch.equal(before[n], plan) for n, plan in found.plans.items())
        if same or (complete and not turn):
            break
    return found


def fuse(
    models: Sequence[nn.Module],
    example: Any,
    *,
    weights: Sequence[float] | None = None,
    reference: int = -1,
    settings: TransportSettings | None = None,
) -> dict[str, Tensor]:
    r"""Return the weights of one network fused from several by optimal transport.

    :math:`\sum_k s_k T_k(w_k)`: each network's weights carried to the units of a reference
    (`transport`), then averaged; the result has the reference's widths, names and dtypes. Whole
    numbers, such as counters of batch norm, are the reference's. Running statistics of batch norm
    belong to none of the networks afterwards: recompute them
    (`thalweg.average.recalibrate_batch_norm`), or `repair` the result. Singh & Jaggi, "Model
    Fusion via Optimal Transport", NeurIPS 2020, arXiv:1910.05653.

    Differences from the authors' code: biases and norms are allowed, units of the output keep
    their places (there they are transported unless ``--skip-last-layer``), and shortcuts share one
    plan with the stream (there plans of the two branches are averaged).

    Args:
        models: networks of the same layers, of any widths; left as they were.
        example: what they are called with.
        weights: :math:`s_k \ge 0`, one a network; equal unless given.
        reference: the place of the network whose order and widths are kept; the last unless given
            (the paper's model B; for more than two, its first estimate of the fused network).
        settings: of the transport.

    Raises:
        UsageError: as `transport`, or settings that do not fit the networks.
    """
    weights = check_weights("weights", weights)
    if not models or (weights is not None and len(weights) != len(models)):
        raise UsageError("fusion needs networks, and one weight for each if any are given")
    if not -len(models) <= reference < len(models):
        raise UsageError(f"the reference must be the place of a network, found {reference!r}")
    anchor = models[reference]
    kept = getattr(anchor, "_orig_mod", anchor).state_dict()
    carried: list[Mapping[str, Tensor]] = []
    for model in models:
        own = getattr(model, "_orig_mod", model).state_dict()
        if model is anchor:
            carried.append({n: x.detach().double().cpu() for n, x in own.items()})
        else:
            carried.append(transport(model, anchor, example, settings).carry(own))
    return {
        name: mean([each[name] for each in carried], weights).to(x)
        if x.is_floating_point()
        else x.detach().clone()
        for name, x in kept.items()
    }


def _paired(own: Structure, its: Structure) -> tuple[tuple[Group, Group], ...]:
    """Pair the groups of two networks; blocks and what is in them stay, so their sizes must."""
    others = {group.name: group for group in its.groups}
    names = [group.name for group in own.groups]
    if names != list(others) or set(own.shapes) != set(its.shapes):
        odd = sorted(set(names) ^ set(others)) or sorted(set(own.shapes) ^ set(its.shapes))
        what = ", ".join(odd[:10]) or "the order of units"
        raise UsageError(f"the networks differ in more than widths: {what}")
    pairs = []
    for group in own.groups:
        other = others[group.name]
        if [_place(a) for a in group.axes] != [_place(a) for a in other.axes]:
            raise UsageError(
                f'the units "{group.name}" are not in the same places in both networks'
            )
        if group.kind == "units":
            pairs.append((group, other))
        elif group.size != other.size:
            raise UsageError(
                f'"{group.name}" has {group.size} and {other.size} units; attention heads and '
                "groups of norms, and what is in them, cannot be transported to other numbers"
            )
    for name, shape in own.shapes.items():
        left, right = list(shape), list(its.shapes[name])
        for axis, number, size in _lengths(pairs, name):
            left[axis] -= number
            right[axis] -= size
        if left != right:
            raise UsageError(
                f'"{name}" has the shapes {tuple(shape)} and {tuple(its.shapes[name])}, and not '
                "all of its units can be transported"
            )
    return tuple(pairs)


def _lengths(pairs: Sequence[tuple[Group, Group]], tensor: str) -> list[tuple[int, int, int]]:
    """Return how many entries along which axes of a tensor move, in both networks."""
    return [
        (a.axis, a.outer * group.size * a.inner, a.outer * other.size * a.inner)
        for group, other in pairs
        for a in group.axes
        if a.tensor == tensor
    ]


def _place(axis: Axis) -> tuple[Any, ...]:
    return axis.tensor, axis.axis, axis.outer, axis.inner, axis.role


def _pass(
    found: Transport, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], solve: Any
) -> bool:
    """Plan every group once; return whether all that makes each was used."""
    waiting, complete = list(found.pairs), True
    while waiting:
        later = []
        for group, other in waiting:
            rows, whole = _rows(found, group, other, ours, theirs)
            if rows is None:
                later.append((group, other))
            else:
                _plan(found, group, *rows, solve)
                complete &= whole
        if len(later) == len(waiting):
            names = ", ".join(group.name for group, _ in later)
            raise UsageError(
                f"nothing describes these units by what comes before them: {names}; compare "
                'activations (by="activations")'
            )
        waiting = later
    return complete


def _rows(
    found: Transport,
    group: Group,
    other: Group,
    ours: Mapping[str, Tensor],
    theirs: Mapping[str, Tensor],
) -> tuple[tuple[Tensor, Tensor] | None, bool]:
    """Return what describes each unit in both networks, and whether all that makes it was used."""
    left, right, complete = [], [], True
    planned = {a for g, _ in found.pairs if g.name in found.plans for a in g.axes}
    waiting = {a for g, _ in found.pairs for a in g.axes} - planned
    for axis, its in zip(group.axes, other.axes, strict=True):
        if axis.role != "makes" or axis.tensor.rpartition(".")[2] in _STATISTICS:
            continue
        if any(a.tensor == axis.tensor and a.axis != axis.axis for a in waiting):
            complete = False
            continue
        x = found.carried(axis.tensor, ours[axis.tensor], but=axis.axis)
        left.append(unit_rows(x, axis, group.size))
        right.append(unit_rows(theirs[axis.tensor], its, other.size))
    if not left:
        return None, False
    return (torch.cat(left, 1), torch.cat(right, 1)), complete


def _plan(found: Transport, group: Group, left: Tensor, right: Tensor, solve: Any) -> None:
    cost = torch.cdist(left[None], right[None], compute_mode="donot_use_mm_for_euclid_dist")[0]
    plan = solve(cost)
    found.plans[group.name] = plan
    found.costs[group.name] = float((plan * cost).sum())


def _solver(settings: TransportSettings) -> Any:
    """Return the function from distances to a plan."""
    try:
        import ot
    except ImportError as error:
        raise UsageError(
            'fusion by transport needs POT; pip install "thalweg[transport]"'
        ) from error

    def solve(cost: Tensor) -> Tensor:
        rows, columns = (torch.full((n,), 1 / n, dtype=torch.float64) for n in cost.shape)
        if settings.solver == "exact":
            return torch.from_numpy(ot.emd(rows.numpy(), columns.numpy(), cost.numpy()))
        # In the logarithm: exp(-distance / reg) is 0 for most pairs.
        reg = settings.reg * (float(cost.mean()) or 1.0)
        return torch.from_numpy(
            ot.sinkhorn(rows.numpy(), columns.numpy(), cost.numpy(), reg, method="sinkhorn_log")
        )

    return solve
