"""The deep learning recommendation model, and the loss of its yes-or-no predictions."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

Clicks = tuple[Tensor, Tensor, Tensor]


class Dlrm(nn.Module):
    """Numbers (n, numbers) and categories (n, k) of int64 to logits (n,).

    Naumov et al., "Deep Learning Recommendation Model for Personalization and Recommendation
    Systems", 2019: the numbers pass the bottom network, which ends at the width of the
    embeddings; the dot products of all pairs of the k + 1 vectors, with the bottom network's
    output, enter the top network. Embeddings start from N(0, 0.05): at the scale of the networks'
    weights, training hardly got off the rows that are rarely seen.

    Args:
        numbers: how many numbers a sample has.
        rows: the rows of each embedding; one number for one table that all categories share.
        categories: k; the length of ``rows`` unless they share a table.
        width: of the embeddings, and of the bottom network's output.
        bottom: widths of the bottom network's hidden layers.
        top: widths of the top network's hidden layers.
        squares: whether each vector's product with itself counts among the pairs.
    """

    starts: Tensor
    pairs: Tensor

    def __init__(
        self,
        numbers: int,
        rows: Sequence[int] | int,
        categories: int,
        width: int,
        bottom: Sequence[int],
        top: Sequence[int],
        squares: bool = False,
    ) -> None:
        super().__init__()
        counts = [rows] if isinstance(rows, int) else list(rows)
        self.register_buffer("starts", _starts(counts, categories), persistent=False)
        # One table with the rows of all: a single look-up, and a single tensor to step.
        self.embedding = nn.Embedding(sum(counts), width)
        self.bottom = _layers([numbers, *bottom, width], last=nn.ReLU())
        pairs = torch.tril_indices(categories + 1, categories + 1, 0 if squares else -1)
        self.register_buffer("pairs", pairs, persistent=False)
        self.top = _layers([pairs.shape[1] + width, *top, 1], last=nn.Identity())
        nn.init.normal_(self.embedding.weight, std=0.05)

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Return the logits."""
        bottom = self.bottom(numbers)
        vectors = self.embedding(categories + self.starts)
        vectors = torch.cat([bottom[:, None], vectors], dim=1)
        first, second = self.pairs.unbind()
        products = (vectors @ vectors.transpose(1, 2))[:, first, second]
        return self.top(torch.cat([bottom, products], dim=1)).squeeze(1)


def click_loss(model: nn.Module, batch: Clicks) -> Tensor:
    """Return the mean log loss of (numbers, categories, labels), nats."""
    numbers, categories, labels = batch
    logits = model(numbers, categories.long())
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))


def click_metric(model: nn.Module, batch: Clicks) -> Tensor:
    """Return the same loss for each sample, (n,), in float32."""
    numbers, categories, labels = batch
    logits = model(numbers, categories.long()).float()
    return F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none")


def _starts(counts: Sequence[int], categories: int) -> Tensor:
    if len(counts) == 1:
        return torch.zeros(categories, dtype=torch.int64)
    return torch.tensor([0, *counts[:-1]]).cumsum(0)


def _layers(widths: Sequence[int], last: nn.Module) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    layers[-1] = last
    return nn.Sequential(*layers)
