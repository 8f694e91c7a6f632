"""`wmt-transformer`: translation at its published size, a large transformer on WMT's pairs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.workload.bleu import bleu, counts, words
from thalweg.workload.cache import prepared
from thalweg.workload.encoder_decoder import (
    END,
    PADDING,
    START,
    EncoderDecoder,
    Pairs,
    content,
    greedy,
    pair_loss,
)
from thalweg.workload.package import package_folder
from thalweg.workload.user_files import fingerprint, published_files
from thalweg.workload.workload import Workload

NAME = "wmt-transformer"
TOKENS = 32_000
LONGEST = 256  # tokens of a sentence
SMOOTHING = 0.1
SPLITS = ("train", "validation")

FACTS: dict[str, Any] = {
    "name": NAME,
    "title": "German to English",
    "description": "A sentence's English translation from its German original. The published size "
    "of phonemes-transformer.",
    "architecture": "Transformer of 6 encoder and 6 decoder layers, pre-norm, width 1,024, 16 "
    "heads, 4,096 inside, dropout 0.1, one matrix for embeddings and output, 32,000 tokens: "
    "209,129,472 parameters.",
    "loss_name": "cross-entropy with label smoothing 0.1, nats per token",
    "metric_name": "BLEU, greedy",
    "higher_is_better": True,
    "batch_size": 128,
    "steps": 133_333,
    "evaluate_every": 6667,
    "data_source": "German-English sentence pairs of the WMT shared tasks, which the user has",
    "licence": "that of the corpora chosen (Europarl, Common Crawl, News Commentary)",
}


def wmt_transformer(
    folder: Path, tokens: int = TOKENS, width: int = 1024, layers: int = 6
) -> Workload:
    """Return the workload.

    The folder holds, for ``train`` and for ``validation``, either ``<split>.de`` and
    ``<split>.en``, a sentence a line and as many in both, or ``<split>*.parquet`` with the column
    ``translation``, as Hugging Face publishes the WMT data sets. Sentences are cut into sub-words
    by byte-pair encoding: by the folder's ``tokenizer.json`` (of the package tokenizers; tokens 0,
    1 and 2 are padding, start and end), which is learnt from the training sentences if it is not
    there. The tokens are kept in the cache. Sentences of more than 256 tokens are left out of
    training and cut in validation.

    AlgoPerf decodes by beam search of 4 and asks for a BLEU of 30.85; decoding is greedy here, so
    that no target is given.

    Args:
        folder: of the sentences.
        tokens: sub-words, at most.
        width: of the model; four times as much inside, and a head for every 64.
        layers: of the encoder, and of the decoder.

    Raises:
        UsageError: a file is missing, the sides differ in length, or the
            package tokenizers (or, for parquet, datasets) is not installed.
    """
    package_folder("tokenizers", NAME, "published")
    files = [file for split in SPLITS for file in _files(folder, split)]
    tokenizer = _tokenizer(folder, tokens)
    key = f"{NAME}-1-{fingerprint([*files, folder / 'tokenizer.json'])}"
    tensors = prepared(key, lambda: _encode(folder, tokenizer))
    size = tokenizer.get_vocab_size()

    def metric(model: nn.Module, batch: Pairs) -> Tensor:
        originals, references = batch
        translations = tokenizer.decode_batch(greedy(model, originals, LONGEST))
        wanted = tokenizer.decode_batch([content(row) for row in references.tolist()])
        pairs = zip(translations, wanted, strict=True)
        return torch.tensor([counts(words(one), words(other)) for one, other in pairs])

    return Workload(
        model=lambda: EncoderDecoder(
            size, size, width, max(1, width // 64), layers, 4 * width, dropout=0.1, tied=True
        ),
        train=Sentences(tensors, "train"),
        validation=Sentences(tensors, "validation"),
        collate=pad,
        loss=lambda model, batch: pair_loss(model, batch, SMOOTHING if model.training else 0.0),
        metric=metric,
        combine=bleu,
        **FACTS,
    )


class Sentences:
    """Pairs of token sequences, as views of one long tensor for each language."""

    def __init__(self, tensors: dict[str, Tensor], split: str) -> None:
        self._sides = [
            (tensors[f"{split}-{side}"], tensors[f"{split}-{side}-ends"]) for side in ("de", "en")
        ]

    def __len__(self) -> int:
        return len(self._sides[0][1])

    def __getitem__(self, number: int) -> Pairs:
        original, translation = (
            tokens[int(ends[number - 1]) if number else 0 : int(ends[number])]
            for tokens, ends in self._sides
        )
        return original, translation


def pad(pairs: list[Pairs]) -> Pairs:
    """Return sequences as two tensors (n, longest) of int64, padded at the end."""
    originals, translations = (
        nn.utils.rnn.pad_sequence(
            [side.long() for side in sides], batch_first=True, padding_value=PADDING
        )
        for sides in zip(*pairs, strict=True)
    )
    return originals, translations


def _files(folder: Path, split: str) -> list[Path]:
    plain = [folder / f"{split}.{side}" for side in ("de", "en")]
    if all(file.is_file() for file in plain):
        return plain
    return published_files(folder, (f"{split}*.parquet",), NAME)


def _sentences(folder: Path, split: str) -> Iterator[tuple[str, str]]:
    files = _files(folder, split)
    if files[0].suffix == ".parquet":
        package_folder("datasets", NAME, "published")
        import datasets

        table: Any = datasets.load_dataset(
            "parquet", data_files=[str(f) for f in files], split="train"
        )
        for row in iter(table):
            yield row["translation"]["de"].strip(), row["translation"]["en"].strip()
        return
    with files[0].open(encoding="utf-8") as originals, files[1].open(encoding="utf-8") as others:
        try:
            for original, translation in zip(originals, others, strict=True):
                yield original.strip(), translation.strip()
        except ValueError:
            raise UsageError(
                f"{files[0]} and {files[1]} differ in length; line by line they must be "
                "translations of each other"
            ) from None


def _tokenizer(folder: Path, tokens: int) -> Any:
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    file = folder / "tokenizer.json"
    if file.is_file():
        return tokenizers.Tokenizer.from_file(str(file))
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=tokens,
        special_tokens=["<padding>", "<start>", "<end>"],  # 0, 1 and 2, as the model has them
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    sides = (side for pair in _sentences(folder, "train") for side in pair)
    tokenizer.train_from_iterator(sides, trainer)
    temporary = folder / ".tokenizer.tmp"
    tokenizer.save(str(temporary))
    temporary.replace(file)
    return tokenizer


def _encode(folder: Path, tokenizer: Any) -> dict[str, Tensor]:
    tensors = {}
    for split in SPLITS:
        sides: tuple[list[Tensor], list[Tensor]] = ([], [])
        for pair in _sentences(folder, split):
            encoded = [tokenizer.encode(side).ids for side in pair]
            if split == "train" and not 0 < max(map(len, encoded)) <= LONGEST:
                continue
            original, translation = (ids[:LONGEST] for ids in encoded)
            sides[0].append(torch.tensor([*original, END], dtype=torch.int32))
            sides[1].append(torch.tensor([START, *translation, END], dtype=torch.int32))
        if not sides[0]:
            raise UsageError(f"{_files(folder, split)[0]} holds no sentence")
        for side, sequences in zip(("de", "en"), sides, strict=True):
            tensors[f"{split}-{side}"] = torch.cat(sequences)
            tensors[f"{split}-{side}-ends"] = torch.tensor([len(s) for s in sequences]).cumsum(0)
    return tensors
