"""`fineweb-gpt`: language modelling at its published size, GPT-2 small on FineWeb."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.workload.gpt import Gpt, next_token_loss, next_token_metric
from thalweg.workload.user_files import published_files
from thalweg.workload.workload import Workload

NAME = "fineweb-gpt"
TOKENS = 50_257
CONTEXT = 1024
VALIDATION = 10_485_760  # tokens, as in the speed runs of GPT-2 small
HEADER, MAGIC, VERSION = 256, 20_240_520, 1

FACTS: dict[str, Any] = {
    "name": NAME,
    "title": "FineWeb",
    "description": "The next token, from up to 1,024 before it, of pages of the web. The published "
    "size of plays-gpt.",
    "architecture": "GPT-2 small: 12 pre-norm blocks, width 768, 12 heads, context 1,024, without "
    "dropout, the output layer tied to the embedding: 124,439,808 parameters.",
    "loss_name": "cross-entropy, nats per token",
    "metric_name": "loss per token",
    "higher_is_better": False,
    "batch_size": 512,
    "steps": 9536,
    "evaluate_every": 477,
    "target": 3.28,
    "target_origin": "the target of the speed runs of GPT-2 small, on 10,485,760 tokens",
    "data_source": "FineWeb as GPT-2 tokens in shards, or OpenWebText in the same format, which "
    "the user has",
    "licence": "ODC-By 1.0 (FineWeb)",
}


def fineweb_gpt(folder: Path) -> Workload:
    """Return the workload.

    The folder holds shards of tokens as they are published for the speed runs of GPT-2 small:
    ``*train*.bin`` and ``*val*.bin``, each 256 numbers of int32 (20240520, the version 1, the
    number of tokens, zeros) and then the tokens as uint16. They are mapped into memory. The
    default budget is one pass over 5 x 10^9 tokens in batches of 512 windows; ``--accumulate``
    cuts a batch into parts that fit.

    Args:
        folder: of the shards.

    Raises:
        UsageError: there is no file of that name in it, or a file is not of that
            format.
    """
    train, validation = (
        Windows(published_files(folder, (pattern,), NAME))
        for pattern in ("*train*.bin", "*val*.bin")
    )
    return Workload(
        model=lambda: Gpt(TOKENS, CONTEXT, width=768, heads=12, blocks=12, tied=True),
        train=train,
        validation=validation.first(VALIDATION // CONTEXT),
        loss=next_token_loss,
        metric=next_token_metric,
        **FACTS,
    )


class Windows:
    """Windows of CONTEXT + 1 tokens of shards, int64; neighbours share one token.

    Args:
        files: the shards.
        context: tokens of a window, without the last one.

    Raises:
        UsageError: a file is not of the format, or no shard has a whole window.
    """

    def __init__(self, files: list[Path], context: int = CONTEXT) -> None:
        self._shards = [_shard(file) for file in files]
        self._context = context
        counts = [max(0, len(shard) - 1) // context for shard in self._shards]
        self._ends = np.cumsum(counts)
        self._count = int(self._ends[-1])
        if self._count == 0:
            raise UsageError(f"{files[0]}: found no window of {context + 1} tokens")

    def first(self, count: int) -> "Windows":
        """Keep the first windows, at most."""
        self._count = min(self._count, count)
        return self

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Tensor:
        if not 0 <= number < self._count:
            raise IndexError(number)
        shard = int(np.searchsorted(self._ends, number, side="right"))
        start = (number - (int(self._ends[shard - 1]) if shard else 0)) * self._context
        window = self._shards[shard][start : start + self._context + 1]
        return torch.from_numpy(window.astype(np.int64))


def _shard(file: Path) -> Any:
    header = np.fromfile(file, "<i4", HEADER)
    size = 4 * HEADER + 2 * int(header[2]) if len(header) == HEADER else -1
    if size < 0 or header[0] != MAGIC or header[1] != VERSION or file.stat().st_size != size:
        raise UsageError(
            f"{file} is no shard of tokens: it must begin with {HEADER} numbers of int32, of which "
            f"the first three are {MAGIC}, {VERSION} and the count of its tokens, and go on with "
            "as many of uint16"
        )
    return np.memmap(file, "<u2", mode="r", offset=4 * HEADER)
