"""What a merge would gain, measured on data before anything is written."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thalweg.core.errors import UsageError
from thalweg.landscape import DegenerateError, Objective, lines
from thalweg.landscape.measure import counting
from thalweg.landscape.results import Saved
from thalweg.merge.catalogue import named
from thalweg.merge.merging import merge
from thalweg.merge.method import Merge, Weights
from thalweg.merge.permutations.rebasin import align

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Progress = Callable[[int, int], None]
"""Told how many of how many evaluations are done."""


@dataclass(frozen=True)
class Prospect(Saved):
    r"""Losses of models and of their merge, and the barriers between them.

    Attributes:
        models: their names.
        losses: of each.
        base: the loss of the base; NaN if there is none.
        method: the merge.
        merged: its loss.
        before: the barrier of each pair of models, in the order (1, 2), (1, 3), ..., (2, 3), ...:
            :math:`\max_t L((1 - t) w_i + t w_j) - (1 - t) L(w_i) - t L(w_j)`.
        after: the same once the second's units are matched with the first's by their weights; NaN
            where the network's symmetries could not be found.
    """

    models: tuple[str, ...]
    losses: tuple[float, ...]
    base: float
    method: str
    merged: float
    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Return the models' names pair by pair, in the order of the barriers."""
        return list(itertools.combinations(self.models, 2))

    @property
    def gain(self) -> float:
        """Return how far the merge's loss is below that of the best model."""
        return min(self.losses) - self.merged

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw the losses and the barriers.

        Args:
            path: where to write it: svg, pdf or png.

        Raises:
            UsageError: matplotlib is missing, or another kind of file.
        """
        from thalweg.merge.figure import draw_prospect

        return draw_prospect(self, path)


def prospect(
    objective: Objective,
    models: Mapping[str, Weights],
    base: Weights | None = None,
    method: str | Merge = "model-soups",
    *,
    evidence: Mapping[str, Any] | None = None,
    steps: int = 10,
    progress: Progress | None = None,
) -> Prospect:
    """Evaluate a merge of models and the lines between them.

    Batch-norm statistics of points between models and of the merge are recomputed on the
    objective's calibration batches; models keep their own.

    Args:
        objective: the loss to judge by, such as that on held-out data.
        models: weights of its network by name, two at least.
        base: what they were fine-tuned from, for merges that need it.
        method: the merge, or its name.
        evidence: what the merge needs besides, as keywords of `thalweg.merge.merge`.
        steps: of each line.
        progress: told the progress.

    Raises:
        UsageError: fewer than two models, weights that are not the network's, or as the merge.
    """
    if len(models) < 2:
        raise UsageError(f"a prospect compares two models or more, found {len(models)}")
    pairs = list(itertools.combinations(models, 2))
    rest = 1 if base is None else 2
    tell = counting(progress, len(models) + rest + 2 * len(pairs))

    def loss(weights: Weights, recalibrated: bool = False) -> float:
        policy: Any = {"batch_norm": "frozen", "frozen_at": "it"}
        if recalibrated:
            policy = {"batch_norm": "recalibrate"}
        with objective.span({"it": weights}, **policy) as loss_at:
            value = loss_at([1.0])
        tell()
        return value

    losses = [loss(weights) for weights in models.values()]
    base_loss = math.nan if base is None else loss(base)
    made = named(method)
    merged = loss(merge(made, models, base, **(evidence or {})), recalibrated=not made.complete)
    before, after = [], []
    for i, j in pairs:
        before.append(_barrier(objective, models[i], models[j], steps))
        tell()
        try:
            structure, found = align(objective, models[i], models[j])
        except UsageError:
            after.append(math.nan)
        else:
            matched = structure.apply(models[j], found.permutations)
            after.append(_barrier(objective, models[i], matched, steps))
        tell()
    name = method if isinstance(method, str) else type(method).__name__
    return Prospect(
        tuple(models), tuple(losses), base_loss, name, merged, tuple(before), tuple(after)
    )


def _barrier(objective: Objective, one: Weights, other: Weights, steps: int) -> float:
    try:
        (line,) = lines(
            objective, {"one": one, "other": other}, steps=steps, batch_norm="recalibrate"
        )
    except DegenerateError:  # the same point
        return 0.0
    return line.rise()
