"""An encoder-decoder transformer, its loss, and greedy decoding."""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

PADDING, START, END = 0, 1, 2
SPECIAL = 3  # tokens from here on are the language's own

Pairs = tuple[Tensor, Tensor]


class EncoderDecoder(nn.Module):
    """Source (n, s) and target (n, t) tokens of int64 to logits of the token after each (n, t, v).

    Vaswani et al., "Attention Is All You Need", 2017, with the norm before each layer and one at
    the end of each half (Xiong et al., "On Layer Normalization in the Transformer Architecture",
    2020), and sinusoidal positions. Padding, token 0, is not attended to.

    Args:
        source: how many tokens the source has.
        target: how many tokens the target has.
        width: of the residual stream.
        heads: of each attention; they divide the width.
        layers: of the encoder, and of the decoder.
        wide: width inside the feed-forward layers.
        dropout: probability that an entry of a layer's output is dropped in training.
        tied: whether both embeddings and the output layer are one matrix; source and target then
            share their tokens.
    """

    def __init__(
        self,
        source: int,
        target: int,
        width: int,
        heads: int,
        layers: int,
        wide: int,
        dropout: float = 0.0,
        tied: bool = False,
    ) -> None:
        super().__init__()
        self.source_embedding = nn.Embedding(source, width)
        self.target_embedding = self.source_embedding if tied else nn.Embedding(target, width)
        self.encoder = nn.ModuleList(
            Layer(width, heads, wide, dropout, cross=False) for _ in range(layers)
        )
        self.encoder_norm = nn.LayerNorm(width)
        self.decoder = nn.ModuleList(
            Layer(width, heads, wide, dropout, cross=True) for _ in range(layers)
        )
        self.decoder_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, target, bias=False)
        self.dropout = nn.Dropout(dropout)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter)
        for embedding in (self.source_embedding, self.target_embedding):
            nn.init.normal_(embedding.weight, std=width**-0.5)
        if tied:
            self.head.weight = self.source_embedding.weight

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Return the logits."""
        return self.decode(self.encode(source), source, target)

    def encode(self, source: Tensor) -> Tensor:
        """Return the encoder's states (n, s, width)."""
        hidden = self._embed(self.source_embedding, source)
        visible = _not_padding(source)
        for layer in self.encoder:
            hidden = layer(hidden, visible)
        return self.encoder_norm(hidden)

    def decode(self, memory: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Return the logits, given the encoder's states."""
        hidden = self._embed(self.target_embedding, target)
        # Padding follows everything else in the target, so that looking back never meets it.
        for layer in self.decoder:
            hidden = layer(hidden, None, memory, _not_padding(source))
        return self.head(self.decoder_norm(hidden))

    def _embed(self, embedding: nn.Embedding, tokens: Tensor) -> Tensor:
        width = embedding.embedding_dim
        hidden = embedding(tokens) * width**0.5
        return self.dropout(hidden + _positions(tokens.shape[1], width).to(hidden))


class Layer(nn.Module):
    """Self-attention, attention to a memory if there is one, and a feed-forward layer."""

    def __init__(self, width: int, heads: int, wide: int, dropout: float, cross: bool) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(width)
        self.self_attention = Attention(width, heads)
        self.cross_attention = Attention(width, heads) if cross else None
        self.cross_norm = nn.LayerNorm(width) if cross else None
        self.feed_forward_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, wide)
        self.shrink = nn.Linear(wide, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        hidden: Tensor,
        visible: Tensor | None,
        memory: Tensor | None = None,
        memory_visible: Tensor | None = None,
    ) -> Tensor:
        """Return the layer's output (n, t, width); without ``visible`` nothing later is seen."""
        normed = self.self_norm(hidden)
        hidden = hidden + self.dropout(self.self_attention(normed, normed, visible))
        if self.cross_attention is not None and self.cross_norm is not None:
            read = self.cross_attention(self.cross_norm(hidden), memory, memory_visible)
            hidden = hidden + self.dropout(read)
        wide = self.widen(self.feed_forward_norm(hidden)).relu()
        return hidden + self.dropout(self.shrink(wide))


class Attention(nn.Module):
    """Attention of (n, t, width) to (n, s, width): to what is visible (n, 1, 1, s), or causal."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.mix = nn.Linear(width, width)

    def forward(self, hidden: Tensor, memory: Tensor | None, visible: Tensor | None) -> Tensor:
        """Return what was read (n, t, width)."""
        queries, keys, values = (
            layer(states).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer, states in ((self.query, hidden), (self.key, memory), (self.value, memory))
        )
        read = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=visible, is_causal=visible is None
        )
        return self.mix(read.transpose(1, 2).flatten(2))


def pair_loss(model: nn.Module, batch: Pairs, smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy of a target's tokens after the first, padding aside, nats.

    Args:
        model: an `EncoderDecoder`.
        batch: source (n, s), and target (n, t) from START to END; then padding.
        smoothing: the share of probability that the loss wants spread over all tokens.
    """
    source, target = (trim(tokens).long() for tokens in batch)
    logits = model(source, target[:, :-1])
    return F.cross_entropy(
        logits.flatten(0, 1),
        target[:, 1:].flatten(),
        ignore_index=PADDING,
        label_smoothing=smoothing,
    )


@torch.no_grad()
def greedy(model: nn.Module, source: Tensor, longest: int) -> list[list[int]]:
    """Return the most probable continuation, token by token, for each source (n, s).

    Args:
        model: an `EncoderDecoder`.
        source: tokens, padded.
        longest: where an output that does not end is cut.

    Returns:
        The tokens of each output, without START and END.
    """
    network: EncoderDecoder = getattr(model, "module", model)  # type: ignore[assignment]
    source = trim(source).long()
    memory = network.encode(source)
    target = torch.full((len(source), 1), START, device=source.device)
    ended = torch.zeros(len(source), dtype=torch.bool, device=source.device)
    for _ in range(longest):
        following = network.decode(memory, source, target)[:, -1].argmax(1)
        following = following.masked_fill(ended, PADDING)
        target = torch.cat([target, following[:, None]], dim=1)
        ended |= following == END
        if bool(ended.all()):
            break
    return [content(tokens) for tokens in target.tolist()]


def content(tokens: list[int]) -> list[int]:
    """Return a sequence up to its END, without START and padding."""
    if END in tokens:
        tokens = tokens[: tokens.index(END)]
    return [token for token in tokens if token >= SPECIAL]


def trim(tokens: Tensor) -> Tensor:
    """Return tokens (n, t) without the columns at the end that hold padding alone."""
    used = (tokens != PADDING).any(0).nonzero()
    return tokens[:, : int(used[-1]) + 1] if len(used) else tokens[:, :1]


def _not_padding(tokens: Tensor) -> Tensor:
    return (tokens != PADDING)[:, None, None, :]


def _positions(length: int, width: int) -> Tensor:
    place = torch.arange(length)[:, None]
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    return torch.cat([(place * rate).sin(), (place * rate).cos()], dim=1)[:, :width]
