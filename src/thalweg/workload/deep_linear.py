"""`deep-linear`: a linear map learnt by a product of matrices, plateau after plateau."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.core.seeds import generator
from thalweg.workload.workload import Workload

FACTS: dict[str, Any] = {
    "name": "deep-linear",
    "title": "Deep linear network",
    "description": "A linear map of rank 8 from 16 numbers to 16, learnt by a product of four "
    "matrices from a small start; its singular values are learnt one after the other.",
    "architecture": "Four 16 x 16 layers without bias or non-linearity: 1,024 parameters.",
    "loss_name": "half the squared error",
    "metric_name": "loss above the minimum",
    "higher_is_better": False,
    "batch_size": 32,
    "steps": 600,
    "evaluate_every": 30,
    "data_source": "made by a seeded generator",
    "licence": "none needed",
}

Samples = tuple[Tensor, Tensor]


def deep_linear(
    layers: int = 4, width: int = 16, size: int = 16, rank: int = 8, start: float = 0.3
) -> Workload:
    """Return the workload.

    The task of Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of
    learning in deep linear neural networks", 2014: white inputs, and targets that are a linear map
    of them with the singular values 1, 1/2, ..., 1/rank. The minimum is half the sum of the
    squares of the singular values after the width-th, by the theorem of Eckart and Young.

    Args:
        layers: matrices in the product, from 2.
        width: of the hidden layers, from 1.
        size: of inputs and targets, from 1.
        rank: of the map, up to ``size``.
        start: the initial entries' standard deviation, times the square root of the columns.

    Raises:
        UsageError: a number is out of range.
    """
    if layers < 2 or min(width, size, rank) < 1 or rank > size or not start > 0:
        raise UsageError(
            "the deep linear network needs layers >= 2, width >= 1, 1 <= rank <= size and "
            f"start > 0; found {layers}, {width}, rank {rank}, size {size}, start {start}"
        )
    draw = generator(0, "deep-linear")
    left, right = (
        torch.linalg.qr(torch.randn(size, rank, dtype=torch.float64, generator=draw))[0]
        for _ in range(2)
    )
    values = 1 / torch.arange(1, rank + 1, dtype=torch.float64)
    count = max(1024, size)
    # Orthogonal columns: the inputs' second moment is the identity exactly.
    gaussian = torch.randn(count, size, dtype=torch.float64, generator=draw)
    inputs = torch.linalg.qr(gaussian)[0] * count**0.5
    targets = inputs @ (left @ torch.diag(values) @ right.T).T
    samples = (inputs.float(), targets.float())
    minimum = 0.5 * float(values[width:].square().sum())

    def metric(model: nn.Module, batch: Samples) -> Tensor:
        return _losses(model, batch).double() - minimum

    return Workload(
        model=lambda: _network([size, *[width] * (layers - 1), size], start),
        train=samples,
        validation=samples,
        loss=lambda model, batch: _losses(model, batch).mean(),
        metric=metric,
        **FACTS,
    )


def _network(sizes: list[int], start: float) -> nn.Sequential:
    layers = [nn.Linear(before, after, bias=False) for before, after in pairwise(sizes)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=start / layer.in_features**0.5)
    return nn.Sequential(*layers)


def _losses(model: nn.Module, batch: Samples) -> Tensor:
    inputs, targets = batch
    return 0.5 * (model(inputs) - targets).square().sum(1)
