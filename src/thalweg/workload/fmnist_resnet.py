"""`fmnist-resnet`: Fashion-MNIST and a residual network, as ImageNet's ResNet-50 in small."""

import gzip
from functools import lru_cache
from typing import Any

from torch import Tensor, nn

from thalweg.workload.cache import prepared, verified
from thalweg.workload.classification import (
    ImageBatch,
    accuracy,
    cross_entropy,
    read_idx,
    split_images,
)
from thalweg.workload.fetched import debian_files, find
from thalweg.workload.resnet import ResNet
from thalweg.workload.workload import Workload

PACKAGE = "dataset-fashion-mnist"

# SHA-256 of the four files as their authors publish them.
FILES = {
    "train-images-idx3-ubyte.gz": (
        "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
        (60000, 28, 28),
    ),
    "train-labels-idx1-ubyte.gz": (
        "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
        (60000,),
    ),
    "t10k-images-idx3-ubyte.gz": (
        "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
        (10000, 28, 28),
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
        (10000,),
    ),
}

DIGEST = "174de6e8d5e0fef85207b0d82576637d4052d86f968bd4bae4bf3af68c271305"

FACTS: dict[str, Any] = {
    "name": "fmnist-resnet",
    "title": "Fashion-MNIST, residual network",
    "description": "Which of ten kinds of clothes a 28 x 28 grey image shows: 60,000 images to "
    "train on, the published 10,000 of the test set to validate on.",
    "architecture": "A residual network: a 3 x 3 convolution with stride 2, three stages with one "
    "block of two 3 x 3 convolutions each (16, 32 and 64 channels), and batch normalisation: "
    "77,754 parameters.",
    "loss_name": "cross-entropy",
    "metric_name": "accuracy",
    "higher_is_better": True,
    "batch_size": 128,
    "steps": 1200,
    "evaluate_every": 120,
    "target": 0.9,
    "target_origin": "AdamW (lr 0.003, weight decay 0.05, warm-up, linear) had 0.899 after 960 of "
    "1,200 steps and 0.904 at the end, one seed; SGD (lr 0.1, momentum 0.9, Nesterov, weight "
    "decay 0.0005, the same schedule) 0.901 and 0.909",
    "data_source": "Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017), as in the Debian package "
    "dataset-fashion-mnist",
    "licence": "MIT",
}


def build() -> Workload:
    """Return the workload.

    Raises:
        UsageError: the Debian package dataset-fashion-mnist can neither be found nor downloaded,
            or its files are not the known ones.
    """
    train, validation = _data()
    return Workload(
        model=network,
        train=train,
        validation=validation,
        loss=cross_entropy,
        metric=accuracy,
        **FACTS,
    )


def network() -> nn.Module:
    """Return a new ResNet with eight weighted layers."""
    return ResNet(1, 10, widths=(16, 32, 64), blocks=(1, 1, 1))


@lru_cache(maxsize=1)
def _data() -> tuple[ImageBatch, ImageBatch]:
    return split_images(prepared("fashion-mnist", _prepare, DIGEST))


def _prepare() -> dict[str, Tensor]:
    with debian_files(PACKAGE, FACTS["name"]) as files:
        return {
            name.split("-idx")[0]: read_idx(
                gzip.decompress(verified(find(files, name), sha256)), shape
            )
            for name, (sha256, shape) in FILES.items()
        }
