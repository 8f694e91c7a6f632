"""A U-Net that maps an image to an image."""

import torch
from torch import Tensor, nn


class UNet(nn.Module):
    """Images (n, 1, h, w) to images of the same shape; h and w divide by 2 ** levels.

    Ronneberger et al., "U-Net", 2015, in the form that Zbontar et al., "fastMRI", 2018, give as
    their baseline: two 3 x 3 convolutions at each level, with instance normalisation (without
    learnt scales) and leaky ReLU of slope 0.2; means over 2 x 2 on the way down, transposed
    convolutions on the way up, and the features of the way down joined to those of the way up.

    Args:
        width: channels of the first level; each further one has twice as many.
        levels: how often the image is halved.
    """

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels)]
        self.down = nn.ModuleList(
            _convolutions(inputs, outputs)
            for inputs, outputs in zip([1, *widths], widths, strict=False)
        )
        self.bottom = _convolutions(widths[-1], 2 * widths[-1])
        self.grow = nn.ModuleList(_grow(2 * outputs, outputs) for outputs in reversed(widths))
        self.up = nn.ModuleList(_convolutions(2 * outputs, outputs) for outputs in reversed(widths))
        self.last = nn.Conv2d(width, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the images."""
        kept = []
        hidden = images
        for layer in self.down:
            hidden = layer(hidden)
            kept.append(hidden)
            hidden = nn.functional.avg_pool2d(hidden, 2)
        hidden = self.bottom(hidden)
        for grow, layer in zip(self.grow, self.up, strict=True):
            hidden = layer(torch.cat([grow(hidden), kept.pop()], dim=1))
        return self.last(hidden)


def _convolutions(inputs: int, outputs: int) -> nn.Sequential:
    first = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(*_after(first, outputs), *_after(second, outputs))


def _grow(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        *_after(nn.ConvTranspose2d(inputs, outputs, 2, stride=2, bias=False), outputs)
    )


def _after(convolution: nn.Module, outputs: int) -> list[nn.Module]:
    return [convolution, nn.InstanceNorm2d(outputs), nn.LeakyReLU(0.2)]
