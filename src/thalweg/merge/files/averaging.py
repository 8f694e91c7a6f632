"""Averages of checkpoints of one run that are on disk."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thalweg.average.profiles import mix
from thalweg.average.snapshots import Snapshot, find_snapshots
from thalweg.core.checks import check_number, check_whole
from thalweg.core.errors import UsageError
from thalweg.core.shares import check_weights
from thalweg.merge.files.checkpoint import ADAPTER, TORCH_SUFFIXES
from thalweg.merge.files.merging import Merged, merge_files
from thalweg.merge.run_average import RunAverage, exponential

_SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Points:
    """Checkpoints of one run, and what each weighs in their average.

    Attributes:
        paths: of the checkpoints, oldest first.
        weights: of each; None for equal ones.
        error: of an average that is reconstructed from snapshots, the distance of its profile from
            the one asked for, as a share of the latter's norm.
    """

    paths: tuple[Path, ...]
    weights: tuple[float, ...] | None
    error: float | None = None


def choose_points(
    given: Sequence[str | Path],
    *,
    last: int | None = None,
    weights: Sequence[float] | None = None,
    ema: float | None = None,
    width: float | None = None,
    at: int | None = None,
) -> Points:
    r"""Find the checkpoints of a run and say what each weighs.

    Args:
        given: checkpoints that `thalweg.merge.open_checkpoint` takes, or folders that hold several;
            if their names are the same but for numbers that grow together, they are put in that
            order, else they are taken as given, oldest first. Or one folder with the snapshots of
            `thalweg.average.PowerEMA`.
        last: how many of the latest are averaged; all unless given.
        weights: one number a checkpoint, from the oldest of those averaged; equal unless given.
        ema: the decay :math:`\beta` of a bias-corrected exponential average over the checkpoints,
            in which the i-th of n weighs :math:`\beta^{n - i}`; of snapshots, over the points of
            the run, one each ``every`` updates.
        width: of snapshots, the relative width of the power-function average to make.
        at: of snapshots, the points of the run after which the average stands; all unless given.

    Raises:
        UsageError: there are no such checkpoints, or settings that do not go together.
    """
    if sum(x is not None for x in (weights, ema, width)) > 1:
        raise UsageError("weights, ema and width are three ways to weigh points; give one of them")
    snapshots = find_snapshots(Path(given[0])) if len(given) == 1 else []
    if snapshots:
        if last is not None or weights is not None or (ema is None) == (width is None):
            raise UsageError(
                f"{given[0]} holds snapshots of power-ema: give the width of the average that is "
                "made of them, or the decay of an exponential one (ema), and nothing else but at"
            )
        return _reconstructed(snapshots, ema, width, at)
    if width is not None or at is not None:
        raise UsageError(
            "width and at are for one folder with snapshots of power-ema(folder=...); "
            f"{', '.join(map(str, given)) or 'nothing'} is none"
        )
    paths = in_order([path for one in given for path in _within(Path(one))])
    if last is not None:
        check_whole("last", last, least=1)
        if last > len(paths):
            raise UsageError(f"last is {last}, and there are {len(paths)} checkpoints")
        paths = paths[-last:]
    if not paths:
        raise UsageError("there is nothing to average; name checkpoints, or a folder of them")
    chosen = check_weights("weights", weights)
    if chosen is not None and len(chosen) != len(paths):
        raise UsageError(f"weights has {len(chosen)} numbers for {len(paths)} checkpoints")
    if ema is not None:
        check_number("ema", ema, "[0, 1)")
        chosen = exponential(ema, len(paths))
    return Points(tuple(paths), chosen)


def average_files(points: Points, *, out: str | Path, **options: Any) -> Merged:
    """Average checkpoints into a new folder, tensor by tensor.

    Reading, memory, output and errors are those of `thalweg.merge.merge_files`. The average is
    computed in float32, or float64 if any tensor is.

    Args:
        points: of `choose_points`; those that weigh nothing are not read.
        out: the folder, new or empty.
        options: ``dtype``, ``shard_size``, ``finish`` and ``progress`` of `merge_files`.

    Raises:
        UsageError: as `merge_files`.
    """
    paths, weights = points.paths, points.weights
    if weights is not None:
        kept = [(path, w) for path, w in zip(paths, weights, strict=True) if w]
        paths, weights = tuple(path for path, _ in kept), tuple(w for _, w in kept)
    return merge_files(RunAverage(weights), paths, out=out, **options)


def in_order(paths: Sequence[Path]) -> list[Path]:
    """Return paths in the order of the numbers in their names, or as they are.

    Numbers count if the names are the same but for them, and none falls where another rises. So
    step-900 comes before step-1000, where a shell says otherwise.
    """
    ordered = _by_numbers(paths)
    return list(paths) if ordered is None else ordered


def _by_numbers(paths: Sequence[Path]) -> list[Path] | None:
    if len({_NUMBER.sub("0", str(path)) for path in paths}) != 1:
        return None
    rows = sorted((list(map(int, _NUMBER.findall(str(path)))), path) for path in paths)
    for (before, _), (after, _) in itertools.pairwise(rows):
        if before == after or any(b > a for b, a in zip(before, after, strict=True)):
            return None
    return [path for _, path in rows]


def _reconstructed(
    snapshots: Sequence[Snapshot], ema: float | None, width: float | None, at: int | None
) -> Points:
    runs = {one.run for one in snapshots}
    if len(runs) > 1:
        raise UsageError(
            f"{snapshots[0].file.parent} holds snapshots of {len(runs)} runs; take them apart"
        )
    at = max(one.points for one in snapshots) if at is None else at
    check_whole("at", at, least=1)
    sources = [(one.points, one.exponent) for one in snapshots]
    shares, error = mix(sources, at, width=width, decay=ema)
    return Points(tuple(one.file for one in snapshots), tuple(shares), error)


def _within(path: Path) -> list[Path]:
    """Return a checkpoint, or those that a folder holds, in order."""
    if not path.exists():
        raise UsageError(f"there is no checkpoint {path}")
    if not path.is_dir() or _is_model(path):
        return [path]
    if (path / "race.sqlite").exists():
        raise UsageError(
            f"{path} is a race: it holds the end of each run, and runs from different starts have "
            "no average; keep points of one run, or see thalweg merge and thalweg align"
        )
    _refuse_training(path)
    found = [
        one
        for one in sorted(path.iterdir())
        if not one.name.startswith(".")
        and (_is_model(one) if one.is_dir() else one.suffix.lower() in _SUFFIXES)
    ]
    if not found:
        for one in path.iterdir():
            _refuse_training(one)
        raise UsageError(
            f"{path} holds no checkpoints: neither files ({', '.join(_SUFFIXES)}) nor folders in "
            "the Hugging Face form"
        )
    ordered = _by_numbers(found)
    if ordered is None:
        raise UsageError(
            f"the order of the checkpoints in {path} is not known, since their names differ in "
            f"more than numbers that grow together: {', '.join(one.name for one in found[:10])}; "
            "name them, oldest first"
        )
    return ordered


def _is_model(path: Path) -> bool:
    names = ("model.safetensors", "pytorch_model.bin", f"{ADAPTER}")
    indices = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
    return path.is_dir() and any((path / name).exists() for name in (*names, *indices))


def _refuse_training(path: Path) -> None:
    if (path / "state.json").exists() and (path / "tensors.safetensors").exists():
        raise UsageError(
            f"{path} is the state of a training run, optimiser included, and the only one that is "
            "kept; record points of the run with thalweg.train.RecordTrajectory(folder=...) and "
            "average those"
        )
