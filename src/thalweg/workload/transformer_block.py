"""The block that the transformers on text and on images share."""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class TransformerBlock(nn.Module):
    """Attention and a feed-forward layer four times as wide, each added to its input.

    Both on the normalised input ("pre-norm"), as in Radford et al., "Language Models are
    Unsupervised Multitask Learners", 2019. Takes and returns (n, t, width).

    Args:
        width: of the residual stream.
        heads: of the attention; they divide the width.
        causal: whether a position reads only itself and those before it.
    """

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.attention_norm = nn.LayerNorm(width)
        self.attend = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.shrink = nn.Linear(4 * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the block's output."""
        count, length, width = hidden.shape
        queries, keys, values = (
            part.view(count, length, self.heads, width // self.heads).transpose(1, 2)
            for part in self.attend(self.attention_norm(hidden)).chunk(3, dim=-1)
        )
        read = F.scaled_dot_product_attention(queries, keys, values, is_causal=self.causal)
        hidden = hidden + self.mix(read.transpose(1, 2).reshape(count, length, width))
        wide = F.gelu(self.widen(self.feed_forward_norm(hidden)))
        return hidden + self.shrink(wide)
