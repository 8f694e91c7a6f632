"""Images from under-sampled k-space: masks, zero-filled images, and their structural similarity.

As Zbontar et al., "fastMRI: An Open Dataset and Benchmarks for Accelerated MRI", 2018, define them.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

WINDOW = 7


class Slices(NamedTuple):
    """A batch: images with mean 0 and deviation 1 as their inputs have it, and how to go back.

    Attributes:
        inputs: magnitudes of zero-filled images, (n, 1, h, w), scaled.
        targets: the true images, (n, 1, h, w), shifted and scaled like the inputs.
        mean: of each input before, (n,).
        deviation: of each input before, (n,).
        largest: the largest value of the volume that each image is of, (n,).
    """

    inputs: Tensor
    targets: Tensor
    mean: Tensor
    deviation: Tensor
    largest: Tensor


def random_masks(
    count: int,
    columns: int,
    acceleration: float = 4.0,
    centre: float = 0.08,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return which columns of k-space are measured, (count, columns), bool, frequency 0 central.

    The share ``centre`` of lowest frequencies is, and each other column with the probability that
    makes ``columns / acceleration`` the expected number of all.
    """
    low = round(columns * centre)
    probability = (columns / acceleration - low) / (columns - low)
    masks = torch.rand(count, columns, generator=generator) < probability
    start = (columns - low + 1) // 2
    masks[:, start : start + low] = True
    return masks


def zero_filled(images: Tensor, masks: Tensor) -> Tensor:
    """Return the magnitudes of images (n, h, w) of which only columns of k-space were measured.

    Args:
        images: real ones.
        masks: the measured columns (n, w), bool, frequency 0 in the middle; 0 stands for the rest.
    """
    kept = torch.fft.ifftshift(masks, dim=-1)[:, None, :]
    return torch.fft.ifft2(torch.fft.fft2(images) * kept).abs()


def slices(inputs: Tensor, targets: Tensor, largest: Tensor) -> Slices:
    """Return the batch of zero-filled images and true ones, both (n, h, w)."""
    deviation, mean = torch.std_mean(inputs, dim=(1, 2), correction=0)
    deviation = deviation + 1e-11

    def scaled(images: Tensor) -> Tensor:
        return ((images - mean[:, None, None]) / deviation[:, None, None]).unsqueeze(1)

    return Slices(scaled(inputs), scaled(targets), mean, deviation, largest)


def absolute_error(model: nn.Module, batch: Slices) -> Tensor:
    """Return the mean absolute error over all pixels, in the units of the scaled inputs."""
    return F.l1_loss(model(batch[0]), batch[1])


def similarity(model: nn.Module, batch: Slices) -> Tensor:
    """Return the structural similarity of each reconstructed image with the true one, (n,)."""
    inputs, targets, mean, deviation, largest = batch

    def unscaled(images: Tensor) -> Tensor:
        return images.double() * deviation[:, None, None, None] + mean[:, None, None, None]

    return structural_similarity(unscaled(model(inputs)), unscaled(targets), largest.double())


def structural_similarity(one: Tensor, other: Tensor, data_range: Tensor) -> Tensor:
    """Return the structural similarity (SSIM) of images (n, 1, h, w): the mean over places, (n,).

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004,
    with means, unbiased variances v and covariance c over windows of 7 x 7 that lie inside:
    (2 m1 m2 + C1) (2 c + C2) / ((m1^2 + m2^2 + C1) (v1 + v2 + C2)), C1 = (0.01 L)^2 and
    C2 = (0.03 L)^2 with the data range L (n,).
    """
    unbiased = WINDOW**2 / (WINDOW**2 - 1)

    def mean(images: Tensor) -> Tensor:
        return F.avg_pool2d(images, WINDOW, stride=1)

    first, second = mean(one), mean(other)
    variances = unbiased * (mean(one * one) - first**2 + mean(other * other) - second**2)
    covariance = unbiased * (mean(one * other) - first * second)
    small = (0.01 * data_range[:, None, None, None]) ** 2
    large = (0.03 * data_range[:, None, None, None]) ** 2
    top = (2 * first * second + small) * (2 * covariance + large)
    return (top / ((first**2 + second**2 + small) * (variances + large))).mean((1, 2, 3))
