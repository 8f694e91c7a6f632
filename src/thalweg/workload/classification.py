"""What workloads that classify images share: the loss, the metric and scaled pixels."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from thalweg.core.errors import UsageError

ImageBatch = tuple[Tensor, Tensor]


def cross_entropy(model: nn.Module, batch: ImageBatch) -> Tensor:
    """Return the mean cross-entropy of images (n, c, h, w) with their labels (n,), in nats."""
    images, labels = batch
    return F.cross_entropy(model(images), labels)


def accuracy(model: nn.Module, batch: ImageBatch) -> Tensor:
    """Return for each image 1 if the class of the largest logit is the label, else 0: (n,)."""
    images, labels = batch
    return (model(images).argmax(1) == labels).float()


def scaled(train: Tensor, validation: Tensor) -> tuple[Tensor, Tensor]:
    """Return both sets of grey pixels (n, h, w), uint8, as (n, 1, h, w), float32.

    The training pixels then have mean 0 and standard deviation 1, and the others are changed in
    the same way.
    """
    counts = torch.bincount(train.flatten().long(), minlength=256).double()
    values = torch.arange(256, dtype=torch.float64)
    mean = (counts * values).sum() / counts.sum()
    deviation = ((counts * (values - mean).square()).sum() / counts.sum()).sqrt()
    shade = ((values - mean) / deviation).float()
    return shade[train.int()].unsqueeze(1), shade[validation.int()].unsqueeze(1)


def read_idx(content: bytes, shape: tuple[int, ...]) -> Tensor:
    """Return the tensor, uint8, of a file in the IDX format of MNIST.

    Bytes 0, 0, 8 (unsigned bytes), the number of dimensions, each dimension as a big-endian
    32-bit integer, then the values, the last dimension fastest.

    Raises:
        UsageError: it is no such file, or of another shape.
    """
    start = 4 + 4 * len(shape)
    header = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
    size = torch.Size(shape).numel()
    if content[:start] != header or len(content) != start + size:
        raise UsageError(
            f"expected an IDX file of bytes of shape {shape}, found {len(content)} bytes that "
            f"begin with {content[:start].hex()}; install its package again"
        )
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=start).view(shape)


def split_images(read: Mapping[str, Tensor]) -> tuple[ImageBatch, ImageBatch]:
    """Return training and validation data of files in MNIST's form, as `scaled` images.

    Args:
        read: ``train-images`` and ``t10k-images`` (n, 28, 28), ``train-labels`` and
            ``t10k-labels`` (n,).
    """
    train, validation = scaled(read["train-images"], read["t10k-images"])
    return (train, read["train-labels"].long()), (validation, read["t10k-labels"].long())
