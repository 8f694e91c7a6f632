"""The loss along a curve between two solutions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.landscape.along import Along
from thalweg.landscape.curve import Curve
from thalweg.landscape.geometry import distance, vectors_of
from thalweg.landscape.measure import Series, check_also, counting, measured
from thalweg.landscape.objective import Objective, Progress
from thalweg.landscape.policy import Policy, settled_between


@dataclass(frozen=True)
class CurveProfile(Along):
    r"""The loss along a curve.

    Attributes:
        positions: t, from 0 to 1.
        lengths: arc length from the start to each position, in Euclidean distance of weights.
        losses: the loss at each position; the ends are the solutions' own.
        barrier: the most that the loss exceeds the worse end; 0 where it never does, NaN where a
            loss is NaN.
        mean: the mean loss by arc length, by the trapezoid rule.
        batch_norm: the policy for batch-norm statistics.
        also: other quantities at the same weights by name, such as the test loss.
    """

    positions: Series
    lengths: Series
    losses: Series
    barrier: float
    mean: float
    batch_norm: Policy
    also: Mapping[str, Series] = field(default_factory=dict)

    def _rise(self, values: Sequence[float]) -> float:
        return max(values) - max(values[0], values[-1])

    def way(self) -> dict[str, Any]:
        """Return positions, label, title and ends; see `Along`."""
        return {
            "positions": self.lengths,
            "label": "length along the curve",
            "title": f"{self.barrier:.3g} above the worse end at most",
            "ends": None,
        }


def profile(
    objective: Objective,
    curve: Curve,
    *,
    points: int = 61,
    batch_norm: Policy | None = None,
    also: Mapping[str, Objective] | None = None,
    progress: Progress | None = None,
) -> CurveProfile:
    """Evaluate an objective along a curve, evenly in t.

    Args:
        objective: the loss, on training or on test batches.
        curve: what `connect` returned.
        points: how many, both ends included.
        batch_norm: "recalibrate" or "interpolate" (see `Objective.span`); a model with batch
            norm needs one of them.
        also: objectives of the same model by name that are evaluated at the same weights and
            statistics: the test loss, a metric on either.
        progress: told how many of how many points are evaluated.

    Raises:
        UsageError: fewer than two points, or as `Objective.span`.
    """
    if points < 2:
        raise UsageError(f"a profile needs two points, found {points}")
    named = {f"point {j}": weights for j, weights in enumerate(curve.points)}
    batch_norm = settled_between(objective.module, batch_norm, None, named)
    others = check_also(objective, also)
    vectors = vectors_of(objective.model, named)
    positions = tuple(k / (points - 1) for k in range(points))
    mixes = [curve.coefficients(t) for t in positions]
    lengths = [0.0]
    for before, here in itertools.pairwise(_mixed(vectors, mix) for mix in mixes):
        lengths.append(lengths[-1] + distance(before, here))
    with objective.span(named, batch_norm=batch_norm) as loss_at:
        losses, more = measured(loss_at, others, mixes, counting(progress, points))
    ends = max(losses[0], losses[-1])
    barrier = math.nan if any(math.isnan(one) for one in losses) else max(losses) - ends
    pieces = [
        0.5 * (one + other) * (end - start)
        for (one, other), (start, end) in zip(
            itertools.pairwise(losses), itertools.pairwise(lengths), strict=True
        )
    ]
    mean = math.fsum(pieces) / lengths[-1]
    return CurveProfile(positions, tuple(lengths), losses, barrier, mean, batch_norm, more)


def _mixed(vectors: Sequence[Sequence[Tensor]], mix: Sequence[float]) -> list[Tensor]:
    columns = zip(*vectors, strict=True)
    return [
        torch.stack([c * x.double() for c, x in zip(mix, column, strict=True)]).sum(0)
        for column in columns
    ]
