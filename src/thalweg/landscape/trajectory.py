"""The weights along a training run, and the plane that shows most of it."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.core.files import make_folder, write_atomically
from thalweg.landscape.frame import Frame, trainable_names
from thalweg.landscape.geometry import DegenerateError, vectors_of
from thalweg.landscape.grid import Trail
from thalweg.landscape.mix import Weights

CHUNK = 2**22
"""Entries of the trajectory that are read together: bounds the memory of `trajectory_frame`."""

_FILE = re.compile(r"step-(\d{10})\.safetensors")


class Trajectory(Protocol):
    """Weights at steps of a run, held in memory or in files."""

    @property
    def steps(self) -> tuple[int, ...]:
        """Return the recorded steps, ascending."""
        ...

    def weights(self, step: int) -> Weights:
        """Return the weights at a recorded step."""
        ...

    def part(self, step: int, name: str, start: int, end: int) -> Tensor:
        """Return the entries from start to end of a flattened tensor."""
        ...

    def add(self, step: int, weights: Weights) -> None:
        """Record weights, in place of those of the same step if there are any."""
        ...


class InMemory:
    """A trajectory in memory: copies on the CPU."""

    def __init__(self) -> None:
        self._held: dict[int, dict[str, Tensor]] = {}

    @property
    def steps(self) -> tuple[int, ...]:
        """Return the recorded steps, ascending."""
        return tuple(sorted(self._held))

    def weights(self, step: int) -> Weights:
        """Return the weights at a recorded step."""
        return self._held[step]

    def part(self, step: int, name: str, start: int, end: int) -> Tensor:
        """Return the entries from start to end of a flattened tensor."""
        return self._held[step][name].flatten()[start:end]

    def add(self, step: int, weights: Weights) -> None:
        """Record copies of the weights."""
        self._held[step] = {n: x.detach().to("cpu", copy=True) for n, x in weights.items()}


class InFolder:
    """A trajectory as files ``step-NNNNNNNNNN.safetensors`` in a folder, each whole or absent.

    Args:
        folder: made when the first weights are recorded.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    @property
    def steps(self) -> tuple[int, ...]:
        """Return the recorded steps, ascending."""
        if not self.folder.is_dir():
            return ()
        found = (_FILE.fullmatch(path.name) for path in self.folder.iterdir())
        return tuple(sorted(int(match[1]) for match in found if match))

    def weights(self, step: int) -> Weights:
        """Return the weights at a recorded step.

        Raises:
            UsageError: there is no such file, or it is damaged.
        """
        try:
            return load_file(self._file(step))
        except (OSError, SafetensorError) as error:
            raise UsageError(f"cannot read {self._file(step)}: {error}") from None

    def part(self, step: int, name: str, start: int, end: int) -> Tensor:
        """Return the entries from start to end of a flattened tensor."""
        with safe_open(self._file(step), "pt") as file:
            shape = file.get_slice(name).get_shape()
            if not shape:
                return file.get_tensor(name).flatten()[start:end]
            row = math.prod(shape[1:])
            # The rows that hold the entries; the rest of the file is not read.
            first = start // row
            rows = file.get_slice(name)[first : -(-end // row)]
            return rows.flatten()[start - first * row : end - first * row]

    def add(self, step: int, weights: Weights) -> None:
        """Write the weights to a file.

        Raises:
            UsageError: the folder cannot be written to.
        """
        make_folder(self.folder)
        plain = {n: x.detach().cpu().contiguous() for n, x in weights.items()}
        write_atomically(self._file(step), save(plain))

    def _file(self, step: int) -> Path:
        return self.folder / f"step-{step:010d}.safetensors"


def recorded(module: nn.Module) -> Weights:
    """Return what a trajectory records of a model: each distinct tensor under its first name."""
    seen: set[int] = set()
    found: dict[str, Tensor] = {}
    for name, x in module.state_dict(keep_vars=True).items():
        if isinstance(x, Tensor) and id(x) not in seen:
            seen.add(id(x))
            found[name] = x.detach()
    return found


@dataclass(frozen=True)
class _Column:
    """A stretch of a parameter's entries."""

    names: tuple[str, ...]
    start: int
    end: int


def trajectory_frame(model: nn.Module, trajectory: Trajectory) -> Frame:
    r"""Return the plane through the last weights that shows most of a trajectory.

    Principal component analysis: :math:`d_1, d_2` are the unit eigenvectors of the covariance of
    the recorded points :math:`w_t` with the largest eigenvalues, and ``explained`` their shares of
    the total variance. They come from the Gram matrix
    :math:`G_{st} = \langle w_s - w_T, w_t - w_T \rangle`, centred, whose eigenvalues are the same:
    with unit eigenvectors :math:`v_k` of it, :math:`d_k = \sum_t v_{kt} w_t / \sqrt{\lambda_k}`.
    The files are read in stretches of `CHUNK` entries, so memory depends on the number of points
    and not on that of weights, beside the directions themselves. Signs are such that the first
    point has coordinates of at least 0. Li et al., "Visualizing the Loss Landscape of Neural
    Nets", 2018, arXiv 1712.09913, section 7.2.

    Args:
        model: whose trainable parameters count.
        trajectory: recorded weights of this model.

    Raises:
        DegenerateError: the points lie on one line, or are fewer than three.
        UsageError: weights that are not the model's, or not finite.
    """
    steps = trajectory.steps
    if len(steps) < 3:
        raise DegenerateError(
            f"a plane needs three recorded points at least, the trajectory has {len(steps)}", ()
        )
    for step in (steps[0], steps[-1]):
        vectors_of(model, {f"step {step}": trajectory.weights(step)})
    last = trajectory.weights(steps[-1])
    names = trainable_names(model)
    gram = torch.zeros(len(steps), len(steps), dtype=torch.float64)
    for column in _columns(names, last, len(steps)):
        rows = _rows(trajectory, column)
        gram += rows @ rows.mT
    if not bool(gram.isfinite().all()):
        bad = [step for step, ok in zip(steps, gram.diagonal().isfinite(), strict=True) if not ok]
        raise UsageError(f"the weights at step {bad[0]} are not all finite; leave it out")
    centred = gram - gram.mean(0) - gram.mean(1, keepdim=True) + gram.mean()
    values, vectors = torch.linalg.eigh(centred)
    values, vectors = values.flip(0)[:2], vectors.flip(1)[:, :2]
    # Rounding of the stored weights moves a point by its eps times its norm.
    eps = max(torch.finfo(last[aliases[0]].dtype).eps for aliases in _present(names, last))
    size = sum(float(last[a[0]].double().square().sum()) for a in _present(names, last))
    least = len(steps) * max(size * (4 * eps) ** 2, float(values[0]) * 2.0**-50)
    if not values[1] > least:
        raise DegenerateError("the recorded points lie on one line and span no plane", ())
    mixing = vectors / values.sqrt()
    mixing = mixing * torch.where((gram @ mixing)[0] < 0, -1.0, 1.0)
    directions = _directions(trajectory, names, last, mixing)
    one, other = (values / centred.diagonal().sum()).tolist()
    return Frame("trajectory", dict(last), directions, names, explained=(one, other))


def project_trajectory(frame: Frame, trajectory: Trajectory, name: str = "trajectory") -> Trail:
    """Return where each recorded point lies on a plane, and how far from it.

    Reads the points one after the other.

    Raises:
        UsageError: as `Frame.project`.
    """
    marks = [frame.project(trajectory.weights(step), f"step {step}") for step in trajectory.steps]
    return Trail(
        name,
        trajectory.steps,
        tuple(mark.x for mark in marks),
        tuple(mark.y for mark in marks),
        tuple(mark.residual for mark in marks),
    )


def _present(names: tuple[tuple[str, ...], ...], last: Weights) -> list[tuple[str, ...]]:
    """Return the names under which the parameters were recorded."""
    return [tuple(name for name in aliases if name in last) for aliases in names]


def _columns(names: tuple[tuple[str, ...], ...], last: Weights, points: int) -> Iterator[_Column]:
    width = max(1, CHUNK // points)
    for aliases in _present(names, last):
        size = last[aliases[0]].numel()
        for start in range(0, size, width):
            yield _Column(aliases, start, min(size, start + width))


def _rows(trajectory: Trajectory, column: _Column) -> Tensor:
    """Return the stretch of every point less that of the last one, shape (points, entries)."""
    rows = [
        trajectory.part(step, column.names[0], column.start, column.end).double()
        for step in trajectory.steps
    ]
    return torch.stack([row - rows[-1] for row in rows])


def _directions(
    trajectory: Trajectory, names: tuple[tuple[str, ...], ...], last: Weights, mixing: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    parts: list[list[Tensor]] = [[], []]
    for aliases, columns in itertools.groupby(
        _columns(names, last, len(trajectory.steps)), key=lambda column: column.names
    ):
        both = torch.cat([mixing.mT @ _rows(trajectory, column) for column in columns], 1)
        target = last[aliases[0]]
        for part, row in zip(parts, both, strict=True):
            part.append(row.reshape(target.shape).to(target.dtype))
    return parts[0], parts[1]
