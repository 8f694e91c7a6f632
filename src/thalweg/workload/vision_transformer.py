"""A transformer that reads an image as a sequence of patches."""

import torch
from torch import Tensor, nn

from thalweg.workload.transformer_block import TransformerBlock


class VisionTransformer(nn.Module):
    """Images (n, channels, size, size) to the logits of classes (n, classes).

    Dosovitskiy et al., "An Image is Worth 16x16 Words", 2020: a linear map of each patch, a learnt
    token of the class, learnt positions, pre-norm blocks of attention and a feed-forward layer four
    times as wide, and a linear map of the token of the class, which starts at zero; weights from
    Xavier's uniform distribution, positions from N(0, 1 / width). No dropout.

    Args:
        channels: of the images.
        size: of the images, in pixels.
        patch: of the patches, in pixels; it divides the size.
        classes: number of them.
        width: of the tokens.
        heads: of attention; they divide the width.
        depth: number of blocks.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        patch: int,
        classes: int,
        *,
        width: int,
        heads: int,
        depth: int,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, (size // patch) ** 2 + 1, width))
        self.blocks = nn.Sequential(
            *(TransformerBlock(width, heads, causal=False) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        nn.init.normal_(self.positions, std=width**-0.5)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.zeros_(self.head.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        patches = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(images), -1, -1), patches], dim=1)
        return self.head(self.norm(self.blocks(tokens + self.positions)[:, 0]))
