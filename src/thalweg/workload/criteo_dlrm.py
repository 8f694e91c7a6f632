"""`criteo-dlrm`: click prediction at its published size, DLRM on Criteo's logs."""

import contextlib
import gzip
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.core.files import locked
from thalweg.workload.cache import PATIENCE
from thalweg.workload.dlrm import Clicks, Dlrm, click_loss, click_metric
from thalweg.workload.user_files import published_files
from thalweg.workload.workload import Workload

NAME = "criteo-dlrm"
NUMBERS, CATEGORIES = 13, 26
COLUMNS = 1 + NUMBERS + CATEGORIES
BUCKETS = 4_194_304  # 32 x 128 x 1024
CHUNK = 100_000  # lines that are read at a time

FACTS: dict[str, Any] = {
    "name": NAME,
    "title": "Criteo's clicks",
    "description": "Whether an advertisement is clicked, from 13 counts and 26 categories. "
    "The published size of flights-dlrm.",
    "architecture": "DLRM-small of the AlgoPerf benchmark: one table of 4,194,304 rows of width "
    "128 for all categories, hashed; a network of 13, 512, 256 and 128 units; the dot products of "
    "all pairs, squares among them; and a network of 506, 1024, 1024, 512, 256 and 1 units: "
    "539,267,457 parameters.",
    "loss_name": "log loss, nats",
    "metric_name": "log loss",
    "higher_is_better": False,
    "batch_size": 262_144,
    "steps": 10_666,
    "evaluate_every": 533,
    "target": 0.123735,
    "target_origin": "the validation target of AlgoPerf, for the terabyte logs",
    "data_source": "Criteo's terabyte click logs or Kaggle's display advertising challenge, which "
    "the user has",
    "licence": "CC BY-NC-SA 4.0 (terabyte logs); Criteo's terms (Kaggle)",
}


def criteo_dlrm(folder: Path, buckets: int = BUCKETS) -> Workload:
    """Return the workload.

    The folder holds Criteo's text files, plain or ending in ``.gz``: ``day_0`` to ``day_23``, of
    which the last is validated on (its first half, as in AlgoPerf) and the others trained on; or
    Kaggle's ``train.txt``, whose last seventh, the last day, is validated on. A line is the label,
    13 whole numbers and 26 hexadecimal categories, between tabs; what is missing is empty. The
    first reading writes them into ``prepared.bin`` beside them, 160 bytes a line, which is mapped
    into memory afterwards. An epoch's order takes 8 bytes a line.

    Counts enter as ``log(1 + count)``, negative ones and missing ones as 0. A category is its
    number modulo ``buckets``.

    Args:
        folder: of the files.
        buckets: rows of the table.

    Raises:
        UsageError: there is no file of that name in it, or a line is not of that
            format.
    """
    patterns = ("day_[0-9]*", "train.txt", "train.txt.gz")
    files = published_files(folder, patterns, NAME)
    files.sort(key=lambda file: (len(file.name.split(".")[0]), file.name))
    table, counts = _prepared(folder, files)
    if len(files) > 1:
        first = len(table) - counts[-1]
        held_out = table[first : first + max(1, counts[-1] // 2)]
    else:
        first = len(table) - max(1, len(table) // 7)
        held_out = table[first:]
    rows = {"train": table[:first], "validation": held_out}

    return Workload(
        model=lambda: Dlrm(
            NUMBERS,
            buckets,
            CATEGORIES,
            128,
            bottom=(512, 256),
            top=(1024, 1024, 512, 256),
            squares=True,
        ),
        loss=lambda model, batch: click_loss(model, _sample(batch, buckets)),
        metric=lambda model, batch: click_metric(model, _sample(batch, buckets)),
        **rows,
        **FACTS,
    )


def _sample(lines: Tensor, buckets: int) -> Clicks:
    """Return numbers, categories and labels of prepared lines (n, 40)."""
    numbers = lines[:, 1 : 1 + NUMBERS].clamp(min=0).float().log1p()
    # Hexadecimal numbers of 32 bits were kept in the bits of signed ones.
    categories = (lines[:, 1 + NUMBERS :].long() & 0xFFFFFFFF) % buckets
    return numbers, categories, lines[:, 0].float()


def _prepared(folder: Path, files: list[Path]) -> tuple[Tensor, list[int]]:
    """Return all lines (n, 40) of int32, mapped, and how many each file has."""
    binary, index = folder / "prepared.bin", folder / "prepared.txt"
    if not index.exists():
        busy = f"another process has been preparing {folder} for {PATIENCE / 60:.0f} minutes"
        with locked(folder / ".prepared.lock", busy, patience=PATIENCE):
            if not index.exists():
                with binary.open("wb") as out:
                    counts = [_convert(file, out) for file in files]
                lines = [
                    f"{file.name}\t{count}\n" for file, count in zip(files, counts, strict=True)
                ]
                temporary = index.with_suffix(".tmp")
                temporary.write_text("".join(lines))
                temporary.replace(index)  # last, as the sign that the rest is whole
    known = [line.split("\t") for line in index.read_text().splitlines()]
    counts = [int(count) for _, count in known]
    size = 4 * COLUMNS * sum(counts)
    if [name for name, _ in known] != [file.name for file in files] or (
        binary.stat().st_size != size
    ):
        raise UsageError(f"{binary} was prepared from other files; delete it and {index.name}")
    flat = torch.from_file(str(binary), shared=False, size=size // 4, dtype=torch.int32)
    return flat.view(-1, COLUMNS), counts


def _convert(file: Path, out: IO[bytes]) -> int:
    """Write the lines of a file as rows of 40 x int32 and return how many there are."""
    count = 0
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(file.open("rb"))
        lines = stack.enter_context(gzip.open(plain)) if file.suffix == ".gz" else plain
        while chunk := list(islice(lines, CHUNK)):
            try:
                rows = np.array([_row(line) for line in chunk], dtype=np.int64)
            except ValueError as error:
                raise UsageError(
                    f"{file}: after line {count}: a line must be a label, 13 numbers and 26 "
                    f"hexadecimal categories between tabs ({error})"
                ) from None
            out.write(rows.astype(np.uint32).astype("<u4").tobytes())
            count += len(rows)
    return count


def _row(line: bytes) -> list[int]:
    fields = line.rstrip(b"\r\n").split(b"\t")
    if len(fields) != COLUMNS:
        raise ValueError(f"found {len(fields)} fields")
    whole = [int(field or b"0") for field in fields[: 1 + NUMBERS]]
    return whole + [int(field or b"0", 16) for field in fields[1 + NUMBERS :]]
