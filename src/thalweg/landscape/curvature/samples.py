"""Gradients of single samples, and what their scatter says."""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from thalweg.core.errors import UsageError
from thalweg.engine.one_vector import vector
from thalweg.landscape.objective import Objective
from thalweg.landscape.results import Saved

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHUNK = 64
"""Samples whose gradients are computed together: more is faster, and takes more memory."""


@dataclass(frozen=True)
class GradientStatistics(Saved):
    r"""The scatter of single samples' gradients around their mean.

    Attributes:
        mean: the gradient of the objective, shape (n,).
        variance: by entry, over samples, divided by N - 1, shape (n,).
        samples: N.
        noise_scale: :math:`\mathrm{tr}\,\Sigma / |g|^2`, the batch size at which noise and signal
            of the gradient are equal ("simple noise scale", McCandlish et al., "An Empirical Model
            of Large-Batch Training", 2018, arXiv 1812.06162), with the unbiased
            :math:`|\bar g|^2 - \mathrm{tr}\,\Sigma / N` for the squared gradient of the
            population; infinite where that is not positive.
    """

    mean: Tensor
    variance: Tensor
    samples: int
    noise_scale: float

    def plot(self, path: str | os.PathLike[str] | None = None) -> "Figure":
        """Draw how mean and standard deviation are spread over entries; see `Grid.plot`."""
        from thalweg.landscape.figures.sizes import draw_sizes

        title = f"noise scale {self.noise_scale:.3g}, {self.samples} samples"
        parts = {"mean": self.mean, "standard deviation": self.variance.sqrt()}
        return draw_sizes(parts, path, title)


def gradient_statistics(objective: Objective) -> GradientStatistics:
    """Return mean, variance and noise scale of the samples' gradients, in float64.

    Reads every sample's gradient once; memory for `CHUNK` of them and two vectors.

    Raises:
        UsageError: fewer than two samples, or as `sample_gradients`.
    """
    count, mean, scatter = 0, torch.zeros(()), torch.zeros(())
    for index in range(len(objective.batches)):
        for rows in chunks(objective, objective.batches[index], objective.sizes[index]):
            g = rows.double()
            fresh = g.mean(0)
            apart = fresh - mean
            scatter = scatter + (g - fresh).square().sum(0)
            scatter = scatter + apart.square() * (count * len(g) / (count + len(g)))
            mean = mean + apart * (len(g) / (count + len(g)))
            count += len(g)
    if count < 2:
        raise UsageError(f"a variance needs two samples at least, found {count}")
    variance = scatter / (count - 1)
    noise = float(variance.sum())
    signal = float(mean.square().sum()) - noise / count
    if math.isnan(noise) or math.isnan(signal):
        scale = math.nan
    else:
        scale = noise / signal if signal > 0 else math.inf
    return GradientStatistics(mean, variance, count, scale)


def sample_gradients(objective: Objective, batch: int = 0) -> Tensor:
    """Return the gradient of each sample's loss in one of the objective's batches.

    Shape (samples, n), in the order of the trainable parameters. Vectorised where the model's
    operations can be, sample by sample otherwise.

    Raises:
        UsageError: a batch that is not made of tensors whose first dimension counts samples.
    """
    return torch.cat(list(chunks(objective, objective.batches[batch], objective.sizes[batch])))


def chunks(
    objective: Objective, batch: Any, size: int, loss: Callable[[Any, Any], Tensor] | None = None
) -> Iterator[Tensor]:
    """Yield the gradients of a batch's samples, shape (up to `CHUNK`, n) each.

    Args:
        objective: whose model, in evaluation mode.
        batch: tensors, or tuples or dicts of them.
        size: how many samples it holds.
        loss: ``loss(model, batch)`` of a batch of one sample; the objective's own unless given.

    Raises:
        UsageError: as `sample_gradients`.
    """

    def checked(x: Any) -> Any:
        if isinstance(x, Tensor) and (x.ndim == 0 or len(x) != size):
            raise UsageError(
                "gradients of single samples need batches of tensors whose first dimension "
                f"counts samples; found the shape {tuple(x.shape)} among {size} samples"
            )
        return x

    tree_map(checked, batch)
    objective.sound()
    wrapped = _WithLoss(objective.module, loss or objective.loss)
    trainable = {n: p.detach() for n, p in wrapped.named_parameters() if p.requires_grad}
    for first in range(0, size, CHUNK):
        some = _cut(batch, first, min(CHUNK, size - first))
        with objective.differentiable():
            try:
                found = _vectorised(wrapped, trainable, some)
            except RuntimeError:  # an operation that cannot be vectorised
                found = _one_by_one(wrapped, some, min(CHUNK, size - first))
        yield found


def _cut(batch: Any, first: int, count: int) -> Any:
    return tree_map(lambda x: x[first : first + count] if isinstance(x, Tensor) else x, batch)


class _WithLoss(nn.Module):
    """The model as a function of a batch that gives the loss."""

    def __init__(self, model: nn.Module, loss: Callable[[Any, Any], Tensor]) -> None:
        super().__init__()
        self.model, self._loss = model, loss

    def forward(self, batch: Any) -> Tensor:
        return self._loss(self.model, batch)


def _vectorised(wrapped: _WithLoss, params: dict[str, Tensor], batch: Any) -> Tensor:
    def loss(params: dict[str, Tensor], sample: Any) -> Tensor:
        one = tree_map(lambda x: x.unsqueeze(0) if isinstance(x, Tensor) else x, sample)
        return torch.func.functional_call(wrapped, params, (one,)).reshape(())

    dims = tree_map(lambda x: 0 if isinstance(x, Tensor) else None, batch)
    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, dims))(params, batch)
    flat = torch.cat([g.reshape(len(g), g[0].numel()) for g in found.values()], 1)
    return flat if flat.dtype == torch.float64 else flat.float()


def _one_by_one(wrapped: _WithLoss, batch: Any, count: int) -> Tensor:
    params = [p for p in wrapped.parameters() if p.requires_grad]
    rows = []
    for i in range(count):
        loss = wrapped(_cut(batch, i, 1)).reshape(())
        rows.append(vector(torch.autograd.grad(loss, params, materialize_grads=True)))
    return torch.stack(rows)
