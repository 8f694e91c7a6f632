"""The loss around the best solutions of a race: computed once, then read from the race's folder."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from thalweg import workload as workloads
from thalweg.core.batch_norm import batch_norm_layers
from thalweg.core.files import write_atomically
from thalweg.core.seeds import derive_seed
from thalweg.core.streams import GlobalStream
from thalweg.landscape import Line, Objective, Plane, lines, plane, spanning
from thalweg.race.rows import RunRow
from thalweg.race.store import Store
from thalweg.report.facts import Race
from thalweg.workload.batch import sample_count

Progress = Callable[[int, int], None]

FILE_NAME = "landscape.json"
VERSION = 2
SIZE = 21
STEPS = 24
MARGIN = 0.25
BATCH_NORM = "recalibrate"
SAMPLES = 512
LONGEST = 400
WORK = 7e11
"""Floating-point operations that a landscape may take: some ten seconds of two CPU cores."""


@dataclass(frozen=True)
class Terrain:
    """The loss on the plane through solutions and on the lines between them.

    Attributes:
        runs: the final runs whose solutions it goes through, the best first; their ``run_id`` are
            the names in ``plane`` and ``lines``.
        plane: on the plane through three of them, or None if fewer differ.
        lines: between each pair.
        samples: training samples that the loss is over.
        batch_norm: the policy for batch-norm statistics, or None if the model keeps none.
        reason: why there is nothing to show, or why there is no plane; else "".
    """

    runs: tuple[RunRow, ...] = ()
    plane: Plane | None = None
    lines: tuple[Line, ...] = ()
    samples: int = 0
    batch_norm: str | None = None
    reason: str = ""


def terrain(store: Store, race: Race, progress: Progress | None = None) -> Terrain:
    """Return the landscape of a finished race, from its folder if it was computed before.

    It goes through the best final run of each entrant in the order of the ranking, then through
    further seeds, until three solutions span a plane. The loss is the workload's, over up to 512
    training samples that depend on the race's seed alone; batch-norm statistics are recomputed on
    the same samples at every point. Fewer samples and then a coarser grid are used where the model
    would take much longer than the digits network; how many depends on the model, not on the
    machine. A problem (fewer than two different solutions, a task file that is gone) is told in
    `Terrain.reason`.

    Args:
        store: the race; the result is kept in its folder if that can be written to.
        race: what was read from it.
        progress: told how many of how many points are evaluated; not called if nothing is.
    """
    candidates = _candidates(store, race)
    if len(candidates) < 2:
        few = "only one" if candidates else "no"
        return Terrain(
            reason=f"{few} final run of this race finished and left its weights; it takes two."
        )
    key = _key(store, race, candidates)
    found = _read(store, key, candidates)
    if found is not None:
        return found
    try:
        result = _compute(store, race, candidates, progress)
    except Exception as error:  # the user's own model and loss run here, and may fail in any way
        message = " ".join(str(error).split()) or type(error).__name__
        return Terrain(reason=f"it could not be computed: {message[:LONGEST]}")
    with suppress(OSError):  # a report of a folder that cannot be written to is a report still
        _write(store, key, result)
    return result


def _candidates(store: Store, race: Race) -> list[RunRow]:
    """Return final runs with weights: the best of each entrant, then the others by metric."""
    sign = -1.0 if race.higher_is_better else 1.0

    def order(row: RunRow) -> tuple[float, int]:
        return sign * float(row.final_metric or 0), row.seed

    groups = [
        sorted((row for row in e.finished if store.weights(row.run_id).is_file()), key=order)
        for e in race.ranking
    ]
    first = [group[0] for group in groups if group]
    return first + sorted((row for group in groups for row in group[1:]), key=order)


def _key(store: Store, race: Race, candidates: list[RunRow]) -> str:
    """Return a digest of all that the result depends on."""
    digest = hashlib.sha256()
    settings = [VERSION, SIZE, STEPS, MARGIN, BATCH_NORM, SAMPLES, WORK]
    config = [race.config[name] for name in ("workload", "workload_sha256", "seed")]
    digest.update(json.dumps([settings, config, torch.__version__]).encode())
    for row in candidates:
        digest.update(row.run_id.encode())
        digest.update(hashlib.sha256(store.weights(row.run_id).read_bytes()).digest())
    return digest.hexdigest()


def _compute(
    store: Store, race: Race, candidates: list[RunRow], progress: Progress | None
) -> Terrain:
    name = race.config["workload"]
    _check_unchanged(name, race.config["workload_sha256"])
    workload = workloads.load(name)
    device = _device(str(race.config["device"]))
    with GlobalStream(derive_seed(race.config["seed"], "landscape", "model"), device):
        model = workload.model().to(device)
    points: dict[str, Mapping[str, Tensor]] = {}
    for row in candidates:
        points[row.run_id] = load_file(store.weights(row.run_id))
        kept = spanning(model, points)
        points = {run_id: points[run_id] for run_id in kept}
        if len(points) == 3:
            break
    runs = tuple(row for row in candidates if row.run_id in points)
    norm = bool(batch_norm_layers(model))
    if len(points) < 2:
        return Terrain(runs, reason="all final runs ended at the very same weights.")
    order = workloads.Batches(
        workload.train,
        workload.batch_size,
        derive_seed(race.config["seed"], "landscape"),
        device,
        workload.collate,
    )
    first = order.at(0)
    count, size = _plan(model, workload.loss, first, norm)
    batches = [first, *(order.at(step) for step in range(1, count))]
    objective = Objective(model, workload.loss, batches)
    told = _Told(progress, len(points))
    surface = None
    if len(points) == 3:
        surface = plane(
            objective,
            points,
            size=size,
            margin=MARGIN,
            batch_norm=BATCH_NORM,
            progress=told.plane,
        )
    between = lines(objective, points, steps=STEPS, batch_norm=BATCH_NORM, progress=told.lines)
    return Terrain(
        runs=runs,
        plane=surface,
        lines=tuple(between),
        samples=sum(sample_count(batch) for batch in batches),
        batch_norm=BATCH_NORM if norm else None,
        reason="" if surface else "fewer than three of the final runs span a plane.",
    )


class _Told:
    """Progress over the plane and the lines together."""

    def __init__(self, progress: Progress | None, points: int) -> None:
        self._progress = progress
        self._before = 0
        self._after = points * (points - 1) // 2 * (STEPS - 1) + points

    def plane(self, done: int, total: int) -> None:
        self._before = total
        if self._progress is not None:
            self._progress(done, total + self._after)

    def lines(self, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(self._before + done, self._before + total)


def _plan(model: nn.Module, loss: Callable[..., Tensor], batch: Any, norm: bool) -> tuple[int, int]:
    """Return how many batches and how large a grid the work allows."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        modes = {module: module.training for module in model.modules()}
        model.eval()
        loss(model, batch)
        for module, mode in modes.items():
            module.training = mode
    passes = 3 if norm else 1  # recalibration runs in training mode and costs about two
    weights = sum(parameter.numel() for parameter in model.parameters())
    # A call of a module costs about as much as a million operations before it computes anything.
    calls = 1e6 * (10 + sum(1 for _ in model.modules()))
    one = passes * (counter.get_total_flops() + calls)
    points = SIZE**2 + 3 * STEPS
    most = max(1, SAMPLES // sample_count(batch))
    # Writing a point into the model reads and writes each weight some ten times.
    count = min(most, max(1, int((WORK / points - 10 * weights) / one)))
    size = int(math.sqrt(max(WORK / (count * one + 10 * weights) - 3 * STEPS, 0)))
    return count, min(SIZE, max(9, size))


def _check_unchanged(name: str, sha256: str | None) -> None:
    if sha256 is None:
        return
    path = Path(name)
    if not path.is_file():
        raise FileNotFoundError(f"the task file {name} is gone.")
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise ValueError(f"the task file {name} has changed since the race.")


def _device(wanted: str) -> torch.device:
    known = not wanted.startswith("cuda") or torch.cuda.is_available()
    return torch.device(wanted if known else "cpu")


def _read(store: Store, key: str, candidates: list[RunRow]) -> Terrain | None:
    path = store.folder / FILE_NAME
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("key") != key:
        return None
    by_id = {row.run_id: row for row in candidates}
    surface = content["plane"]
    return Terrain(
        runs=tuple(by_id[run_id] for run_id in content["runs"]),
        plane=None if surface is None else Plane(**_numbers(surface)),
        lines=tuple(Line(**_numbers(line)) for line in content["lines"]),
        samples=content["samples"],
        batch_norm=content["batch_norm"],
        reason=content["reason"],
    )


def _write(store: Store, key: str, result: Terrain) -> None:
    content = {
        "key": key,
        "runs": [row.run_id for row in result.runs],
        "plane": None if result.plane is None else _texts(asdict(result.plane)),
        "lines": [_texts(asdict(line)) for line in result.lines],
        "samples": result.samples,
        "batch_norm": result.batch_norm,
        "reason": result.reason,
    }
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    write_atomically(store.folder / FILE_NAME, text + os.linesep)


def _texts(value: Any) -> Any:
    """Return the value with numbers that JSON does not know as texts."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _texts(item) for key, item in value.items()}
    return [_texts(item) for item in value] if isinstance(value, (list, tuple)) else value


def _numbers(value: Any) -> Any:
    """Return what `_texts` was given, lists as tuples."""
    if value in ("nan", "inf", "-inf"):
        return float(value)
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    return tuple(_numbers(item) for item in value) if isinstance(value, list) else value
