"""Model Stock."""

import itertools
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

import torch
from torch import Tensor

from thalweg.merge.method import Measure, Merge, Piece, mean
from thalweg.merge.slerp import Products


@dataclass(frozen=True)
class ModelStock(Merge):
    r"""The point between base and mean that is nearest to the centre of fine-tuned models.

    For each tensor, with :math:`\theta` the angle between task vectors of N models,

    :math:`w = t \bar w + (1 - t) w_0`, :math:`t = \frac{N \cos\theta}{1 + (N - 1) \cos\theta}`.

    If fine-tuned models lie on a thin shell around a centre :math:`\mu` with equal angles,
    :math:`w - \mu` is orthogonal to the span of the task vectors. When to use: two or three
    fine-tuned models and no data. Jang, Yun & Han, "Model Stock: All we need is just a few
    fine-tuned models", ECCV 2024, arXiv:2403.19522.

    The angle rule: the paper does not say how more than two models give one angle; here (as in
    mergekit) :math:`\cos\theta` is the mean of the cosines of all pairs. It is clipped to
    [0, 1]: task vectors that oppose each other give the base. One model gives itself; one that has
    not moved counts as parallel to all.
    """

    needs_base: ClassVar[bool] = True

    def measure(self, count: int) -> Measure:
        """Return what measures the angles."""
        return Products(count, of_deltas=True)

    def combine(self, piece: Piece, measured: Products) -> Tensor:
        """Return the point between base and mean."""
        assert piece.base is not None
        return torch.lerp(piece.base, mean(piece.models), ratio(measured))


def ratio(measured: Products) -> float:
    """Return t, the share of the mean."""
    count = len(measured.gram)
    pairs = itertools.combinations(range(count), 2)
    cosine = fmean([measured.cosine(i, j) for i, j in pairs] or [1.0])
    cosine = min(max(cosine, 0.0), 1.0)
    return count * cosine / (1 + (count - 1) * cosine)
