"""`imbalanced-classes`: many classes, most of them rare, all of which can be told apart."""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.core.seeds import generator
from thalweg.workload.workload import Workload

FACTS: dict[str, Any] = {
    "name": "imbalanced-classes",
    "title": "Imbalanced classes",
    "description": "100 classes, the k-th one 1/k times as frequent as the first, told apart by a "
    "linear layer. Validation has as many of each class, so that the rare ones count.",
    "architecture": "A linear layer from 128 features, from zero: 12,900 parameters.",
    "loss_name": "cross-entropy",
    "metric_name": "accuracy over classes",
    "higher_is_better": True,
    "batch_size": 128,
    "steps": 400,
    "evaluate_every": 20,
    "data_source": "made by a seeded generator",
    "licence": "none needed",
}
FEATURES = 128
NOISE = 0.5
EACH = 10  # validation samples of a class

Labelled = tuple[Tensor, Tensor]


def imbalanced_classes(classes: int = 100, samples: int = 5000) -> Workload:
    """Return the workload.

    Heavy-tailed classes as in Kunstner et al., "Heavy-Tailed Class Imbalance and Why Adam
    Outperforms Gradient Descent on Language Models", 2024. A class is a random unit vector of 128
    features, and its samples have noise of norm 0.5; the nearest class vector tells nearly all of
    them apart.

    Args:
        classes: from 2.
        samples: to train on, about; each class has one at least.

    Raises:
        UsageError: a number is out of range.
    """
    if classes < 2 or samples < classes:
        raise UsageError(
            "imbalanced classes needs classes >= 2 and a sample for each; found "
            f"classes={classes}, samples={samples}"
        )
    draw = generator(0, "imbalanced-classes")
    centres = F.normalize(torch.randn(classes, FEATURES, generator=draw))
    share = 1 / torch.arange(1, classes + 1, dtype=torch.float64)
    counts = (samples * share / share.sum()).round().long().clamp(min=1)

    def drawn(each: Tensor) -> Labelled:
        labels = torch.arange(classes).repeat_interleave(each)
        noise = torch.randn(len(labels), FEATURES, generator=draw)
        return centres[labels] + NOISE / FEATURES**0.5 * noise, labels

    return Workload(
        model=lambda: _linear(classes),
        train=drawn(counts),
        validation=drawn(torch.full_like(counts, EACH)),
        loss=_loss,
        metric=_metric,
        **FACTS,
    )


def _linear(classes: int) -> nn.Linear:
    layer = nn.Linear(FEATURES, classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _loss(model: nn.Module, batch: Labelled) -> Tensor:
    features, labels = batch
    return F.cross_entropy(model(features), labels)


def _metric(model: nn.Module, batch: Labelled) -> Tensor:
    features, labels = batch
    return (model(features).argmax(1) == labels).float()
