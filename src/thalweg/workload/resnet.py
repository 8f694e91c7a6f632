"""Residual networks for images: the small one of three stages, and ResNet-50."""

from collections.abc import Sequence

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class ResNet(nn.Module):
    """Images (n, channels, h, w) to the logits of classes (n, classes).

    He et al., "Deep Residual Learning for Image Recognition", 2015: a first convolution, stages of
    blocks that add to their input, of which each stage but the first begins with a stride of 2, the
    mean over positions, and a linear layer. Weights of convolutions from He's normal distribution.

    Args:
        channels: of the images.
        classes: number of them.
        widths: of the stages.
        blocks: in each stage.
        bottleneck: whether blocks are 1 x 1, 3 x 3 and 1 x 1 convolutions, the last four times as
            wide, or else two of 3 x 3.
        kernel: of the first convolution, which has stride 2.
        pool: whether a maximum over 3 x 3 with stride 2 follows it.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        *,
        bottleneck: bool = False,
        kernel: int = 3,
        pool: bool = False,
    ) -> None:
        super().__init__()
        expansion = 4 if bottleneck else 1
        self.first = _normalised(channels, widths[0], kernel, stride=2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1) if pool else nn.Identity()
        self.stages = nn.Sequential()
        inputs = widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                self.stages.append(_Block(inputs, width, width * expansion, stride, bottleneck))
                inputs = width * expansion
        self.head = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        hidden = self.pool(F.relu(self.first(images)))
        return self.head(self.stages(hidden).mean((2, 3)))


class _Block(nn.Module):
    """Convolutions added to their input, or to a 1 x 1 convolution of it if the shape changes."""

    def __init__(self, inputs: int, width: int, outputs: int, stride: int, bottleneck: bool):
        super().__init__()
        if bottleneck:
            layers = [
                *(_normalised(inputs, width, 1), nn.ReLU()),
                *(_normalised(width, width, 3, stride), nn.ReLU()),
                _normalised(width, outputs, 1),
            ]
        else:
            layers = [
                *(_normalised(inputs, width, 3, stride), nn.ReLU()),
                _normalised(width, outputs, 3),
            ]
        self.residual = nn.Sequential(*layers)
        self.shortcut = (
            nn.Identity()
            if inputs == outputs and stride == 1
            else _normalised(inputs, outputs, 1, stride)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        return F.relu(self.shortcut(hidden) + self.residual(hidden))


def _normalised(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))
