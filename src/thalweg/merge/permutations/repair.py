"""REPAIR: a merged network's units get back the mean and spread that averaging took from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from thalweg.core.errors import UsageError
from thalweg.core.shares import check_weights, shares
from thalweg.merge.method import Weights
from thalweg.merge.permutations.discover import example_of, structure_of
from thalweg.merge.permutations.moments import Moments, Sums, mixed
from thalweg.merge.permutations.structure import OUTPUT
from thalweg.merge.permutations.trace import run

if TYPE_CHECKING:
    from thalweg.landscape import Objective

Progress = Callable[[int, int], None]
"""Told how many of how many layers are done."""


Statistics = Mapping[str, Moments]
"""Moments by the layers' names."""


def preactivations(objective: Objective, weights: Weights | None = None) -> dict[str, Moments]:
    """Return the moments of what each layer that `repair` rescales puts out.

    Sums are over all samples of ``objective.calibration`` alike, in float64, in evaluation mode;
    how the samples are cut into batches does not matter.

    Args:
        objective: the loss on training data.
        weights: of the network, as of ``state_dict``; its own unless given.

    Raises:
        UsageError: weights that are not the network's, or a loss that does not call it.
    """
    sites = [site for site in _sites(objective) if not site.is_norm]
    sums = {site.name: Sums() for site in sites}
    with running(objective, weights):
        hooks = [site.watch(sums[site.name]) for site in sites]
        try:
            for batch in objective.calibration:
                objective.loss(objective.module, batch)
        finally:
            for hook in hooks:
                hook.remove()
    return {name: found.moments() for name, found in sums.items() if found.count}


def repair(
    objective: Objective,
    merged: Weights,
    ends: Sequence[Statistics],
    weights: Sequence[float] | None = None,
    *,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    r"""Return merged weights whose units have the mean and spread that those of the ends have.

    The mean of several networks, even of matched ones, has units that vary less than any
    network's own, the more so the deeper they lie. Every output :math:`y` of a linear layer or
    convolution becomes :math:`\sigma^* (y - \mu) / \sigma + \mu^*`, with its own moments
    :math:`\mu, \sigma` in the merged network and :math:`\mu^* = \sum_i \alpha_i \mu_i`,
    :math:`\sigma^* = \sum_i \alpha_i \sigma_i` of the ends; that is put into the layer's weight
    and bias. Layers are done in the order of the run, each with those before it repaired, so all
    moments are exact in the result; it takes a pass over the data a layer, cut off there.

    Batch-norm layers get the statistics of what comes in (RESET): their scale and shift are the
    interpolated spread and mean already, so a layer straight before one is left as it is. Also
    left are layers whose outputs the network returns; layers that share a weight with others or
    compute it; and units that do not vary. Without a bias, a layer is rescaled and not shifted.
    Layers that are called several times get the moments over all calls.
    Jordan et al., "REPAIR: REnormalizing Permuted Activations for Interpolation Repair", ICLR
    2023, arXiv:2211.08403. Difference from the authors' notebooks: there one pass sets all layers
    at once, with the moments of each batch standing for those of the data.

    Args:
        objective: the loss on training data; ``objective.calibration`` is run.
        merged: the merged network, as of ``state_dict``; not changed.
        ends: `preactivations` of the networks that were merged, with units matched as merged.
        weights: :math:`\alpha_i \ge 0`, one an end; equal unless given.
        progress: told the progress.

    Returns:
        a state dict; tensors that are not changed are shared with the merged one.

    Raises:
        UsageError: weights that are not the network's, ends of other layers or widths, or not one
            weight for each.
    """
    weights = check_weights("weights", weights)
    if not ends or (weights is not None and len(weights) != len(ends)):
        raise UsageError("repair needs the ends' moments, and one weight for each if any are given")
    sites = _sites(objective)
    _check_ends(sites, ends)
    alpha = shares(weights, len(ends))
    result = dict(merged)
    with running(objective, merged):
        for place, site in enumerate(sites):
            found = _moments_at(objective, site)
            if found is not None:
                if site.is_norm:
                    result |= site.reset(found)
                else:
                    result |= site.rescale(found, mixed([end[site.name] for end in ends], alpha))
            if progress is not None:
                progress(place + 1, len(sites))
    return result


@dataclass(frozen=True)
class _Site:
    """A layer that is repaired."""

    name: str
    layer: Any
    calls: int

    @property
    def is_norm(self) -> bool:
        return isinstance(self.layer, _BatchNorm)

    @property
    def units(self) -> int:
        layer = self.layer
        if self.is_norm:
            return layer.num_features
        return layer.out_channels if isinstance(layer, _ConvNd) else layer.out_features

    def watch(self, sums: Sums, stop: bool = False) -> Any:
        """Sum what the layer puts out, or what comes into a norm; end the run there if asked."""
        seen = 0

        def add(x: Tensor) -> None:
            nonlocal seen
            sums.add(x.movedim(self.axis(x), -1).reshape(-1, self.units))
            seen += 1
            if stop and seen == self.calls:
                raise _Enough

        if self.is_norm:
            return self.layer.register_forward_pre_hook(
                lambda _, args, kwargs: add(_first(args, kwargs)), with_kwargs=True
            )
        return self.layer.register_forward_hook(lambda _, args, out: add(out))

    def axis(self, x: Tensor) -> int:
        """Return the axis of the units."""
        if isinstance(self.layer, _ConvNd):
            return -1 - len(self.layer.kernel_size)
        return 1 if self.is_norm else -1

    def tensor(self, name: str) -> str:
        return f"{self.name}.{name}" if self.name else name

    @torch.no_grad()
    def reset(self, found: Moments) -> dict[str, Tensor]:
        """Give a norm the moments of its input."""
        self.layer.running_mean.copy_(found.mean)
        self.layer.running_var.copy_(found.std.square())
        names = ("running_mean", "running_var")
        return {self.tensor(n): getattr(self.layer, n).clone() for n in names}

    @torch.no_grad()
    def rescale(self, found: Moments, goal: Moments) -> dict[str, Tensor]:
        """Give the layer's outputs the moments that they should have."""
        layer = self.layer
        # The spread of a constant is what rounding leaves of it.
        varies = found.std > 1e-6 * found.mean.abs()
        varies &= found.std > 0
        scale = torch.where(varies, goal.std.to(found.std) / found.std, 1.0)
        weight = layer.weight.double()
        if isinstance(layer, _ConvTransposeNd):  # (in, out / groups, ...), inputs by group
            groups = layer.groups
            split = weight.reshape(groups, -1, *weight.shape[1:])
            factor = scale.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))
            scaled = (split * factor).reshape(weight.shape)
        else:
            scaled = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
        layer.weight.copy_(scaled)
        changed = {self.tensor("weight"): layer.weight.detach().clone()}
        if layer.bias is not None:
            layer.bias.copy_((layer.bias.double() - found.mean) * scale + goal.mean.to(scale))
            changed[self.tensor("bias")] = layer.bias.detach().clone()
        return changed


class _Enough(BaseException):
    """Ends a run behind the layer of interest; no model catches it."""


def _moments_at(objective: Objective, site: _Site) -> Moments | None:
    """Return the moments of one layer in the network as it is; None if it is not reached."""
    sums = Sums()
    for batch in objective.calibration:
        hook = site.watch(sums, stop=True)
        try:
            with suppress(_Enough):
                objective.loss(objective.module, batch)
        finally:
            hook.remove()
    return sums.moments() if sums.count else None


def _sites(objective: Objective) -> list[_Site]:
    """Return the layers to repair, in the order in which they are first called."""
    module = objective.module
    structure = structure_of(run(module, *example_of(objective)), module)
    owners: dict[int, int] = {}
    for _, p in module.named_parameters(remove_duplicate=False):
        owners[id(p)] = owners.get(id(p), 0) + 1
    names = {layer: name for name, layer in module.named_modules()}
    calls: dict[nn.Module, int] = {}
    normed: set[nn.Module] = set()
    made: list[tuple[Any, nn.Module]] = []  # kept, so that no address is used twice

    def called(layer: nn.Module, args: tuple[Any, ...], kwargs: Any, out: Any) -> None:
        calls[layer] = calls.get(layer, 0) + 1
        if isinstance(layer, _BatchNorm):
            x = _first(args, kwargs)
            normed.update(maker for y, maker in made if y is x)
        else:
            made.append((out, layer))

    kinds = (nn.Linear, _ConvNd, _BatchNorm)
    hooks = [
        layer.register_forward_hook(called, with_kwargs=True)
        for layer in names
        if isinstance(layer, kinds)
    ]
    try:
        with running(objective, None):
            objective.loss(module, objective.calibration[0])
    finally:
        for hook in hooks:
            hook.remove()
    sites = [_Site(names[layer], layer, count) for layer, count in calls.items()]

    def serves(site: _Site) -> bool:
        if site.is_norm:
            return site.layer.running_mean is not None
        weight = dict(site.layer.named_parameters(recurse=False)).get("weight")
        out = 1 if isinstance(site.layer, _ConvTransposeNd) else 0
        return (
            site.layer not in normed
            and weight is not None
            and owners[id(weight)] == 1
            and structure.fixed.get((site.tensor("weight"), out)) != OUTPUT
        )

    return [site for site in sites if serves(site)]


def _first(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    return args[0] if args else kwargs["input"]


def _check_ends(sites: Sequence[_Site], ends: Sequence[Statistics]) -> None:
    for site in sites:
        if site.is_norm:
            continue
        for place, end in enumerate(ends, 1):
            found = end.get(site.name)
            if found is None or found.mean.shape != (site.units,):
                what = "has no moments" if found is None else f"has {len(found.mean)} units"
                raise UsageError(
                    f'end {place} {what} of the layer "{site.name}", which has {site.units}; give '
                    "what preactivations returns for this network"
                )


@contextmanager
def running(objective: Objective, weights: Weights | None) -> Iterator[None]:
    """Run the network in evaluation mode at these weights; put its own back afterwards."""
    with objective.differentiable(), torch.no_grad():
        if weights is not None:
            try:
                objective.module.load_state_dict(dict(weights))
            except RuntimeError as error:
                raise UsageError(f"these are not the model's weights: {error}") from None
        yield
