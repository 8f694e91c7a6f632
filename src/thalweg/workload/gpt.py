"""A decoder-only transformer, and the loss of predicting each token from those before it."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from thalweg.workload.transformer_block import TransformerBlock


class Gpt(nn.Module):
    """Tokens (n, t) of int64 to logits for the token after each, (n, t, tokens).

    A decoder-only transformer with learnt positions and pre-norm blocks; weights from N(0, 0.02),
    those that write into the residual stream divided by sqrt(2 x blocks), as in Radford et al.,
    "Language Models are Unsupervised Multitask Learners", 2019.

    Args:
        tokens: how many different ones there are.
        context: the longest sequence.
        width: of the residual stream.
        heads: of each attention; they divide the width.
        blocks: how many.
        tied: whether the output layer uses the weights of the embedding.
    """

    def __init__(
        self,
        tokens: int,
        context: int,
        width: int = 96,
        heads: int = 4,
        blocks: int = 3,
        tied: bool = False,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(tokens, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.Sequential(
            *(TransformerBlock(width, heads, causal=True) for _ in range(blocks))
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, tokens, bias=False)
        if tied:
            self.head.weight = self.tokens.weight
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                into_residual = name.endswith(("mix.weight", "shrink.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * blocks if into_residual else 1) ** 0.5)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits."""
        place = torch.arange(tokens.shape[1], device=tokens.device)
        hidden = self.tokens(tokens) + self.positions(place)
        return self.head(self.norm(self.blocks(hidden)))


def next_token_loss(model: nn.Module, windows: Tensor) -> Tensor:
    """Return the mean loss of predicting each token of windows (n, t + 1) but the first, nats."""
    windows = windows.long()
    return F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())


def next_token_metric(model: nn.Module, windows: Tensor) -> Tensor:
    """Return the same loss for each window, (n,), in float32."""
    windows = windows.long()
    logits = model(windows[:, :-1]).float().transpose(1, 2)
    return F.cross_entropy(logits, windows[:, 1:], reduction="none").mean(1)
