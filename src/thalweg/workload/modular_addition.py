"""`modular-addition`: addition modulo a prime, which a network memorises before it understands."""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.core.seeds import generator
from thalweg.workload.workload import Workload

FACTS: dict[str, Any] = {
    "name": "modular-addition",
    "title": "Modular addition",
    "description": "(a + b) modulo 59 for all pairs of numbers below 59: half of the 3,481 pairs "
    "to train on, the others to validate on. The training pairs are soon memorised; the rule is "
    "found much later or, without weight decay, not at all.",
    "architecture": "Two embeddings of width 64, added, then 256 ReLU units and a linear "
    "output: 39,355 parameters.",
    "loss_name": "cross-entropy",
    "metric_name": "accuracy",
    "higher_is_better": True,
    "batch_size": 512,
    "steps": 1500,
    "evaluate_every": 75,
    "target": 0.95,
    "target_origin": "near the optimum, 1, which the rule itself reaches",
    "data_source": "none; the task is that of Power et al., 2022",
    "licence": "none needed",
}

Sums = tuple[Tensor, Tensor]


class Adder(nn.Module):
    """Pairs of numbers (n, 2) of int64 to logits of their sum (n, modulus)."""

    def __init__(self, modulus: int, width: int, hidden: int) -> None:
        super().__init__()
        self.first_embedding = nn.Embedding(modulus, width)
        self.second_embedding = nn.Embedding(modulus, width)
        for embedding in (self.first_embedding, self.second_embedding):
            nn.init.normal_(embedding.weight, std=0.1)
        self.hidden = nn.Linear(width, hidden)
        self.head = nn.Linear(hidden, modulus)

    def forward(self, pairs: Tensor) -> Tensor:
        """Return the logits."""
        first, second = pairs.unbind(1)
        together = self.first_embedding(first) + self.second_embedding(second)
        return self.head(self.hidden(together).relu())


def modular_addition(modulus: int = 59, share: float = 0.5) -> Workload:
    """Return the workload.

    Grokking, as in Power et al., "Grokking: Generalization Beyond Overfitting on Small Algorithmic
    Datasets", 2022.

    Args:
        modulus: from 2.
        share: of the pairs that are trained on, between 0 and 1.

    Raises:
        UsageError: a number is out of range.
    """
    if modulus < 2 or not 0 < share < 1:
        raise UsageError(
            f"modular addition needs modulus >= 2 and 0 < share < 1; found {modulus} and {share}"
        )
    pairs = torch.cartesian_prod(torch.arange(modulus), torch.arange(modulus))
    order = torch.randperm(len(pairs), generator=generator(0, "modular-addition"))
    count = min(max(round(share * len(pairs)), 1), len(pairs) - 1)
    train, validation = (
        (pairs[index], pairs[index].sum(1) % modulus) for index in (order[:count], order[count:])
    )
    return Workload(
        model=lambda: Adder(modulus, 64, 256),
        train=train,
        validation=validation,
        loss=_loss,
        metric=_metric,
        **FACTS,
    )


def _loss(model: nn.Module, batch: Sums) -> Tensor:
    pairs, sums = batch
    return F.cross_entropy(model(pairs), sums)


def _metric(model: nn.Module, batch: Sums) -> Tensor:
    pairs, sums = batch
    return (model(pairs).argmax(1) == sums).float()
