"""How models differ from their base and from one another, tensor by tensor."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from thalweg.core.errors import UsageError
from thalweg.core.threads import use_threads
from thalweg.landscape.results import Saved
from thalweg.merge.engine import Progress, pieces
from thalweg.merge.merging import Held, weights_of
from thalweg.merge.method import Piece, Weights
from thalweg.merge.plan import Keys, make_plan
from thalweg.merge.source import Source
from thalweg.merge.task_arithmetic import TaskArithmetic

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import nn


@dataclass(frozen=True)
class Conflict(Saved):
    r"""How task vectors :math:`\tau_t = w_t - w_0` agree on some tensors.

    Attributes:
        name: of the layer, or "all".
        size: entries.
        base_norm: :math:`|w_0|`.
        norms: :math:`|\tau_t|` of each model.
        cosines: of each pair of models, in the order (1, 2), (1, 3), ..., (2, 3), ...; NaN where
            one has not moved.
        signs: of each pair, the share of entries moved by both that moved the same way; NaN where
            there is none.
        cancelled: :math:`1 - \sum_p |\sum_t \tau_{tp}| / \sum_p \sum_t |\tau_{tp}|`, the share of
            all movement that is lost in the sum: 0 where all move the same way, 1 where they undo
            one another; NaN where none moves.
    """

    name: str
    size: int
    base_norm: float
    norms: tuple[float, ...]
    cosines: tuple[float, ...]
    signs: tuple[float, ...]
    cancelled: float


@dataclass(frozen=True)
class Diagnosis(Saved):
    """What stands in the way of a merge.

    Attributes:
        models: their names.
        whole: over all tensors that would be merged.
        layers: over those of each layer, in the models' order.
    """

    models: tuple[str, ...]
    whole: Conflict
    layers: tuple[Conflict, ...]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Return the models' names pair by pair, in the order of cosines and signs."""
        return list(itertools.combinations(self.models, 2))

    def conflicting(self, count: int | None = None) -> list[Conflict]:
        """Return the layers that lose the largest share of their movement, most first."""
        moved = [layer for layer in self.layers if not math.isnan(layer.cancelled)]
        return sorted(moved, key=lambda layer: -layer.cancelled)[:count]

    def plot(self, path: str | os.PathLike[str] | None = None, *, layers: int = 30) -> Figure:
        """Draw the most conflicting layers and the models' agreement.

        Args:
            path: where to write it: svg, pdf or png.
            layers: how many of them.

        Raises:
            UsageError: matplotlib is missing, or another kind of file.
        """
        from thalweg.merge.figure import draw_diagnosis

        return draw_diagnosis(self, path, layers)


def diagnose(
    models: Mapping[str, Weights | nn.Module],
    base: Weights | nn.Module,
    *,
    keys: Keys = "same",
    progress: Progress | None = None,
) -> Diagnosis:
    """Compare models in memory with their base and with one another.

    Args:
        models: modules or state dicts by name, two at least.
        base: the model that all were fine-tuned from.
        keys: see `thalweg.merge.plan.make_plan`.
        progress: told how many of how many entries are done.

    Raises:
        UsageError: models that do not fit together, or entries that are not finite.
    """
    sources = [Held(name, weights_of(model)) for name, model in models.items()]
    held = Held("the base", weights_of(base))
    return diagnose_sources(list(models), sources, held, keys=keys, progress=progress)


def diagnose_sources(
    names: Sequence[str],
    models: Sequence[Source],
    base: Source,
    *,
    keys: Keys = "same",
    progress: Progress | None = None,
) -> Diagnosis:
    """Compare models from anywhere, piece by piece; see `diagnose`."""
    if len(models) < 2:
        raise UsageError(f"a diagnosis compares two models or more, found {len(models)}")
    plan = make_plan(TaskArithmetic(), models, base, keys=keys)
    jobs = [job for job in plan.jobs if job.how == "merge" and job.size]
    layers: dict[str, _Sums] = {}
    done, total = 0, sum(job.size for job in jobs)
    with torch.no_grad(), use_threads(1):  # as merges do
        for job in jobs:
            layer = job.name.rpartition(".")[0] or job.name
            sums = layers.setdefault(layer, _Sums(len(models)))
            for piece in pieces(plan, job):
                sums.add(piece)
            done += job.size
            if progress is not None:
                progress(done, total)
    whole = _Sums(len(models))
    for sums in layers.values():
        whole.join(sums)
    return Diagnosis(
        tuple(names),
        whole.conflict("all"),
        tuple(sums.conflict(name) for name, sums in layers.items()),
    )


@dataclass
class _Sums:
    count: int
    size: int = 0
    base: float = 0.0
    absolute: float = 0.0
    of_sum: float = 0.0
    gram: torch.Tensor = field(init=False)
    moved: torch.Tensor = field(init=False)
    alike: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        square = (self.count, self.count)
        self.gram = torch.zeros(square, dtype=torch.float64)
        self.moved = torch.zeros(square, dtype=torch.float64)
        self.alike = torch.zeros(square, dtype=torch.float64)

    def add(self, piece: Piece) -> None:
        assert piece.base is not None
        deltas = piece.deltas
        self.size += piece.base.numel()
        self.base += torch.dot(piece.base, piece.base).item()
        self.absolute += sum(tau.abs().sum().item() for tau in deltas)
        total = deltas[0].clone()
        for tau in deltas[1:]:
            total.add_(tau)
        self.of_sum += total.abs().sum().item()
        signs = [tau.sign() for tau in deltas]
        for i in range(self.count):
            self.gram[i, i] += torch.dot(deltas[i], deltas[i]).item()
            for j in range(i + 1, self.count):
                self.gram[i, j] += torch.dot(deltas[i], deltas[j]).item()
                # Both moved: the product of signs is 1 or -1.
                product = signs[i] * signs[j]
                moved = int(torch.count_nonzero(product))
                self.moved[i, j] += moved
                self.alike[i, j] += (moved + product.sum().item()) / 2

    def join(self, other: _Sums) -> None:
        for name in ("size", "base", "absolute", "of_sum", "gram", "moved", "alike"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def conflict(self, name: str) -> Conflict:
        norms = self.gram.diagonal().sqrt().tolist()
        pairs = list(itertools.combinations(range(self.count), 2))
        return Conflict(
            name,
            self.size,
            math.sqrt(self.base),
            tuple(norms),
            tuple(_ratio(self.gram[i, j].item(), norms[i] * norms[j]) for i, j in pairs),
            tuple(_ratio(self.alike[i, j].item(), self.moved[i, j].item()) for i, j in pairs),
            1 - _ratio(self.of_sum, self.absolute),
        )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
