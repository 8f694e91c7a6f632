"""Barriers between two solutions, layer by layer."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError, did_you_mean
from thalweg.core.seeds import generator
from thalweg.landscape.geometry import parameter_names, vectors_of
from thalweg.landscape.measure import Series, check_also, counting, measured
from thalweg.landscape.mix import Weights
from thalweg.landscape.objective import Objective, Progress
from thalweg.landscape.policy import Policy, settled_between
from thalweg.landscape.results import Saved

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Order = Literal["single", "shallow-first", "deep-first", "random"]
ORDERS: tuple[Order, ...] = get_args(Order)


@dataclass(frozen=True)
class LayerBarrier(Saved):
    r"""What mixing one set of layers between two solutions does to the loss.

    Attributes:
        layers: names of the layers that were mixed.
        host: the solution whose other layers were kept.
        losses: the loss at each share a of the other solution in the mixed layers.
        barrier: the most that the loss exceeds the mean loss of the two whole solutions; negative
            where it stays below, NaN where a loss is NaN.
        also: other quantities at the same weights by name, such as the test loss.
    """

    layers: tuple[str, ...]
    host: str
    losses: Series
    barrier: float
    also: Mapping[str, Series] = field(default_factory=dict)


@dataclass(frozen=True)
class LayerBarriers(Saved):
    """Barriers by layer or by growing sets of layers.

    Attributes:
        names: the two solutions.
        ends: their losses.
        positions: the shares a at which layers were mixed, 0 and 1 included.
        order: how the sets were made.
        barriers: for each set, one with each solution as the host.
        controls: the same with a random displacement of the same length by tensor in place of the
            other solution's layers; empty unless asked for.
        batch_norm: the policy for batch-norm statistics.
        also_ends: other quantities at the two solutions, by name.
        kinds: the class of the module that a layer is, by the layer's name, where it is one.
    """

    names: tuple[str, str]
    ends: tuple[float, float]
    positions: tuple[float, ...]
    order: Order
    barriers: tuple[LayerBarrier, ...]
    controls: tuple[LayerBarrier, ...]
    batch_norm: Policy
    also_ends: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)

    def labels(self) -> dict[tuple[str, ...], str]:
        """Return what each set of layers is called; of sets that grow, what is new in each."""
        found = {}
        for one in self.barriers:
            growing = self.order != "single" and len(one.layers) > 1
            new = one.layers[-1:] if growing else one.layers
            words = ", ".join(
                f"{layer} {self.kinds[layer]}" if layer in self.kinds else layer for layer in new
            )
            found[one.layers] = f"+ {words}" if growing else words
        return found

    def worst(self, host: str) -> LayerBarrier | None:
        """Return a host's highest barrier, or None if none of them is a number."""
        known = [b for b in self.barriers if b.host == host and not math.isnan(b.barrier)]
        return max(known, key=lambda one: one.barrier, default=None)

    def change(self, one: LayerBarrier, name: str) -> float:
        """Return how far one of the other quantities goes from the mean of both solutions.

        The difference with the largest magnitude, with its sign; NaN where a value is NaN. So it
        serves losses and metrics that are better where they are higher alike.

        Args:
            one: an entry of ``barriers`` or ``controls``.
            name: of the quantity.
        """
        level = sum(self.also_ends[name]) / 2
        apart = [value - level for value in one.also[name]]
        return math.nan if any(math.isnan(x) for x in apart) else max(apart, key=abs)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw a bar for each barrier, hollow ones for controls; see `Grid.plot` for the path."""
        from thalweg.landscape.figures.lines import draw_barriers

        return draw_barriers(self, path)


def layers_of(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return the names of parameters by layer, in the model's order.

    A layer is a module with parameters of its own; its name is the module's path. A parameter of
    the model itself is a layer by its own name. Tied parameters belong to their first layer.
    """
    module: nn.Module = getattr(model, "_orig_mod", model)
    found: dict[str, list[str]] = {}
    for name, _ in module.named_parameters():
        found.setdefault(name.rpartition(".")[0] or name, []).append(name)
    return {layer: tuple(names) for layer, names in found.items()}


def layer_barriers(
    objective: Objective,
    points: Mapping[str, Weights],
    *,
    order: Order = "single",
    groups: Mapping[str, Sequence[str]] | None = None,
    steps: int = 2,
    controls: bool = False,
    seed: int = 0,
    batch_norm: Policy | None = None,
    also: Mapping[str, Objective] | None = None,
    progress: Progress | None = None,
) -> LayerBarriers:
    r"""Mix two solutions in some layers only, and measure how far the loss rises.

    In the host's weights the layers of a set S become :math:`(1 - a) w_S + a w'_S`, w' the other
    solution; all else stays the host's. Adilova et al., "Layer-wise Linear Mode Connectivity",
    ICLR 2024, arXiv 2307.06966: single layers almost never show a barrier, whole networks do.

    Args:
        objective: the loss, or an error whose mean over samples is wanted.
        points: two solutions by name.
        order: "single" mixes each layer alone; "shallow-first", "deep-first" and "random" let the
            set grow by one layer at a time until it holds all.
        groups: names of layers (see `layers_of`) by the name of the group that is to be treated as
            one layer; by default each layer is one.
        steps: from a = 0 to 1; the authors take 2.
        controls: whether to try random displacements of the same length too.
        seed: of the random order and displacements.
        batch_norm: "recalibrate" or "interpolate" (see `Objective.span`); a model with batch
            norm needs one of them. Statistics are those of no layer: recalibrated for each mix,
            or mixed by share.
        also: objectives of the same model by name that are evaluated at the same weights and
            statistics: the test loss, a metric on either.
        progress: told how many of how many losses are evaluated.

    Raises:
        UsageError: not two solutions, an unknown order or layer, or as `Objective.span`.
    """
    if order not in ORDERS:
        raise UsageError(f'unknown order of layers "{order}".{did_you_mean(order, ORDERS)}')
    if len(points) != 2 or steps < 2:
        raise UsageError(
            f"layers are mixed between two solutions in two steps at least, found {len(points)} "
            f"and {steps}"
        )
    batch_norm = settled_between(objective.module, batch_norm, None, points)
    vectors_of(objective.model, points)  # which are finite and of this architecture
    others = check_also(objective, also)
    layers = _grouped(layers_of(objective.model), groups)
    sets = _sets(list(layers), order, seed)
    one, other = points
    aliases = parameter_names(objective.module)
    positions = tuple(k / steps for k in range(steps + 1))
    tell = counting(progress, 2 + len(sets) * 2 * steps * (2 if controls else 1))

    def along(
        host: Weights, guest: Weights, shares: Sequence[float]
    ) -> tuple[Series, dict[str, Series]]:
        pair = {"host": host, "guest": guest}
        with objective.span(pair, batch_norm=batch_norm) as loss_at:
            return measured(loss_at, others, [(1 - a, a) for a in shares], tell)

    whole = {name: along(points[name], points[name], [0.0]) for name in points}
    ends = {name: losses[0] for name, (losses, _) in whole.items()}
    level = 0.5 * (ends[one] + ends[other])
    found: dict[bool, list[LayerBarrier]] = {False: [], True: []}
    for chosen in sets:
        moved = {alias for layer in chosen for name in layers[layer] for alias in aliases[name]}
        for host, guest in ((one, other), (other, one)):
            for control in (False, True) if controls else (False,):
                target = points[guest]
                if control:
                    target = _displaced(points[host], target, aliases, seed)
                mixed = {
                    name: target[name] if name in moved and name in target else x
                    for name, x in points[host].items()
                }
                further, more = along(points[host], mixed, positions[1:])
                losses = (ends[host], *further)
                beside = {name: (*whole[host][1][name], *more[name]) for name in others}
                found[control].append(
                    LayerBarrier(chosen, host, losses, _over(losses, level), beside)
                )
    return LayerBarriers(
        (one, other),
        (ends[one], ends[other]),
        positions,
        order,
        tuple(found[False]),
        tuple(found[True]),
        batch_norm,
        {name: (whole[one][1][name][0], whole[other][1][name][0]) for name in others},
        {
            name: type(module).__name__
            for name, module in objective.module.named_modules()
            if name in layers and groups is None
        },
    )


def _grouped(
    layers: dict[str, tuple[str, ...]], groups: Mapping[str, Sequence[str]] | None
) -> dict[str, tuple[str, ...]]:
    if groups is None:
        return layers
    for names in groups.values():
        for name in names:
            if name not in layers:
                raise UsageError(f'the model has no layer "{name}".{did_you_mean(name, layers)}')
    return {
        group: tuple(parameter for name in names for parameter in layers[name])
        for group, names in groups.items()
    }


def _sets(layers: list[str], order: Order, seed: int) -> list[tuple[str, ...]]:
    if order == "single":
        return [(layer,) for layer in layers]
    if order == "deep-first":
        layers = layers[::-1]
    elif order == "random":
        shuffle = torch.randperm(len(layers), generator=generator(seed, "order of layers"))
        layers = [layers[i] for i in shuffle.tolist()]
    return [tuple(layers[: count + 1]) for count in range(len(layers))]


def _displaced(
    host: Weights, guest: Weights, aliases: Mapping[str, Sequence[str]], seed: int
) -> dict[str, Tensor]:
    """Return the host moved at random, each tensor as far as the guest's lies from it."""
    moved: dict[str, Tensor] = dict(host)
    for first, names in aliases.items():
        known = next(alias for alias in names if alias in host)
        start = host[known].detach().double()
        apart = torch.linalg.vector_norm(guest[known].detach().double() - start)
        random = generator(seed, "control", first)
        d = torch.randn(start.shape, generator=random, dtype=torch.float64).to(start.device)
        there = start + d * (apart / torch.linalg.vector_norm(d))
        moved.update((name, there) for name in names)
    return moved


def _over(losses: Sequence[float], level: float) -> float:
    return math.nan if any(math.isnan(one) for one in losses) else max(losses) - level
