"""Exact running statistics for batch normalisation, for weights that were not trained into place.

Averaged, interpolated or merged weights come with running statistics of other weights. A pass
over data in training mode gives them their own; done with one fixed momentum, or with every batch
weighing the same, it gives them a biased version that a short last batch shifts.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from thalweg.core.errors import UsageError


def batch_norm_layers(model: nn.Module) -> dict[str, _BatchNorm]:
    """Return the layers of `model` that keep running batch statistics, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }


def recalibrate_batch_norm(
    model: nn.Module, batches: Iterable[Any], forward: Callable[[nn.Module, Any], Any]
) -> None:
    r"""Recompute the running statistics of every batch-norm layer from the given batches.

    With :math:`n_i` values a channel in batch :math:`i`, batch mean :math:`m_i` and unbiased batch
    variance :math:`v_i` (what torch accumulates), the statistics become
    :math:`\sum n_i m_i / \sum n_i` and :math:`\sum n_i v_i / \sum n_i`, summed in float64. So the
    running mean is the mean over all samples however they were cut into batches. Only batch-norm
    layers run in training mode: dropout stays off, as in the evaluation that the statistics are
    for, and no random number is drawn. Momenta and training flags are as before afterwards, also
    after an error, which leaves the old statistics in place. A layer that no batch reaches keeps
    its statistics. Izmailov et al., "Averaging Weights Leads to Wider Optima and Better
    Generalization", 2018, arXiv:1803.05407.

    Args:
        model: the model; of a compiled model, the original module is run.
        batches: batches of training data, each of at least two values a channel.
        forward: runs one forward pass, ``forward(model, batch)``; its result is not used.

    Raises:
        UsageError: there are batch-norm layers and no batch, or a batch of one value a channel.
    """
    # Dynamo does not see hooks that were added after it compiled.
    model = getattr(model, "_orig_mod", model)
    layers = batch_norm_layers(model)
    if not layers:
        return
    sums: dict[str, _Sums] = {name: _Sums() for name in layers}
    with torch.no_grad(), _collecting(model, layers, sums):
        seen = False
        for batch in batches:
            forward(model, batch)
            seen = True
    if not seen:
        raise UsageError(
            "batch-norm statistics were asked for from no batch at all; pass at least one batch"
        )
    for name, layer in layers.items():
        sums[name].write(layer)


class _Sums:
    """Weighted sums of one layer's batch statistics."""

    def __init__(self) -> None:
        self.count = 0
        self.calls = 0
        self.mean: Tensor | None = None
        self.variance: Tensor | None = None

    def add(self, count: int, mean: Tensor, variance: Tensor) -> None:
        # float64 copies: torch writes into the same buffers at the next call.
        mean, variance = mean.to(torch.float64) * count, variance.to(torch.float64) * count
        self.mean = mean if self.mean is None else self.mean.add_(mean)
        self.variance = variance if self.variance is None else self.variance.add_(variance)
        self.count += count
        self.calls += 1

    def write(self, layer: Any) -> None:
        if self.mean is None or self.variance is None:
            return
        layer.running_mean.copy_(self.mean / self.count)
        layer.running_var.copy_(self.variance / self.count)
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked.fill_(self.calls)


@contextmanager
def _collecting(
    model: nn.Module, layers: dict[str, _BatchNorm], sums: dict[str, _Sums]
) -> Iterator[None]:
    """Let every batch-norm layer, and nothing else, see its own batch; put all back afterwards."""
    modes = {module: module.training for module in model.modules()}
    momenta = {name: layer.momentum for name, layer in layers.items()}
    buffers = {
        name: {key: value.clone() for key, value in layer.named_buffers(recurse=False)}
        for name, layer in layers.items()
    }
    handles = []

    def before(name: str) -> Callable[..., None]:
        def hook(layer: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            if _values(args, keywords) < 2:
                raise UsageError(
                    f'the batch-norm layer "{name}" has no variance from a batch of one value a '
                    "channel; use batches of at least two samples (drop a last batch of one)"
                )
            layer.reset_running_stats()  # with momentum 1 an old NaN would still get in: 0 * NaN

        return hook

    def after(name: str) -> Callable[..., None]:
        def hook(layer: Any, args: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
            sums[name].add(_values(args, keywords), layer.running_mean, layer.running_var)

        return hook

    try:
        for module in modes:
            module.training = False
        for name, layer in layers.items():
            layer.training = True
            layer.momentum = 1.0
            handles.append(layer.register_forward_pre_hook(before(name), with_kwargs=True))
            handles.append(layer.register_forward_hook(after(name), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for name, layer in layers.items():
                layer.momentum = momenta[name]
                for key, value in layer.named_buffers(recurse=False):
                    value.copy_(buffers[name][key])


def _values(args: tuple[Any, ...], keywords: dict[str, Any]) -> int:
    """Return how many values a channel the layer's input holds."""
    batch: Tensor = args[0] if args else keywords["input"]
    return batch.numel() // batch.shape[1]
