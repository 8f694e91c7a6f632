"""Snapshots of a run's averages in files, each whole or absent, which say what they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from thalweg.average.kept import Point, plain
from thalweg.core.errors import UsageError
from thalweg.core.files import make_folder, replaced
from thalweg.engine.distributed import gathered, is_distributed

KIND = "power-ema snapshot"


@dataclass(frozen=True)
class Snapshot:
    r"""A file with a power-function average.

    Attributes:
        file: in safetensors.
        points: of the run that the average is of.
        exponent: :math:`\gamma` of its profile.
        every: updates between two of the points.
        run: tells one run from another.
    """

    file: Path
    points: int
    exponent: float
    every: int
    run: str


class Weights(Mapping[str, Tensor]):
    """The tensors of a file by name, each read when it is asked for.

    Args:
        file: in safetensors.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        with _opened(file) as found:
            self._names = list(found.keys())

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor."""
        if name not in self._names:
            raise KeyError(name)
        with _opened(self._file) as found:
            return found.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._names)

    def __len__(self) -> int:
        """Return how many tensors there are."""
        return len(self._names)


def find_snapshots(folder: Path) -> list[Snapshot]:
    """Return the snapshots in a folder, in order of points and exponents; none if it is not there.

    Raises:
        UsageError: a file called so that is damaged.
    """
    found = []
    for file in sorted(folder.glob("snapshot-*.safetensors")):
        with _opened(file) as opened:
            facts = opened.metadata() or {}
        if facts.get("thalweg") != KIND:
            continue
        try:
            one = Snapshot(
                file,
                int(facts["points"]),
                float(facts["exponent"]),
                int(facts["every"]),
                facts["run"],
            )
        except (KeyError, ValueError):
            raise UsageError(f"{file} does not say what it is a snapshot of; delete it") from None
        found.append(one)
    return sorted(found, key=lambda one: (one.points, one.exponent))


def check_snapshots(folder: Path, run: str) -> list[Snapshot]:
    """Return a run's snapshots.

    Raises:
        UsageError: there are snapshots of another run.
    """
    found = find_snapshots(folder)
    for one in found:
        if one.run != run:
            raise UsageError(
                f"{one.file} is a snapshot of another run, or of other settings; choose another "
                "folder for each run, or delete that one"
            )
    return found


def write_snapshot(snapshot: Snapshot, point: Point, model: nn.Module) -> None:
    """Write an average to its file, in place of what is there; it is on the disk afterwards.

    What the model's state dict does not hold is left out; of tied tensors the file holds one, and
    names the others. Sharded tensors are gathered, so that every process has to take part; the
    first one writes.

    Raises:
        UsageError: the folder cannot be written to.
    """
    kept = _names(model)
    first = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
    tensors = {}
    for name, x in point.items():
        if kept.get(name) == name and (first or is_distributed(x)):
            tensors[name] = gathered(x).detach().cpu().contiguous()
            if not first:
                tensors.clear()  # it only took part in the gathering
    if not first:
        return
    facts = {
        "thalweg": KIND,
        "points": str(snapshot.points),
        "exponent": repr(snapshot.exponent),
        "every": str(snapshot.every),
        "run": snapshot.run,
        "format": "pt",
    }
    ties = {name: same for name, same in kept.items() if name != same}
    make_folder(snapshot.file.parent)
    try:
        with replaced(snapshot.file) as file:
            save_file(tensors, file, {**ties, **facts})
    except (OSError, SafetensorError) as error:
        raise UsageError(f"cannot write the snapshot {snapshot.file}: {error}") from error


def mark(settings: str, point: Point) -> float:
    """Return a number, exact in 48 bits, that tells runs apart by their settings and first point.

    A run that starts again from its beginning has the same. Sharded points are gathered.
    """
    total = hashlib.sha256(settings.encode())
    for name, x in point.items():
        total.update(name.encode())
        flat = gathered(x).detach().cpu().contiguous().reshape(-1)
        total.update(memoryview(flat.view(torch.uint8).numpy()))  # type: ignore[arg-type]
    return float(int.from_bytes(total.digest()[:6], "big"))


def saved_names(model: nn.Module) -> list[str]:
    """Return the names that a snapshot's file holds: of the state dict, each tensor's first."""
    return [name for name, same in _names(model).items() if name == same]


def _names(model: nn.Module) -> dict[str, str]:
    """Return the names of a model's state dict, each with the first one of the same tensor."""
    first: dict[int, str] = {}
    return {
        plain(name): first.setdefault(id(x), plain(name))
        for name, x in model.state_dict(keep_vars=True).items()
        if isinstance(x, Tensor)
    }


def _opened(file: Path) -> safe_open:
    try:
        return safe_open(file, "pt")
    except (OSError, SafetensorError) as error:
        raise UsageError(f"cannot read {file}: {error}") from None
