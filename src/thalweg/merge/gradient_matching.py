"""Merging by uncertainty-based gradient matching."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from thalweg.core.checks import check_number
from thalweg.core.errors import UsageError
from thalweg.core.shares import check_weights
from thalweg.merge.method import Merge, Piece


@dataclass(frozen=True)
class GradientMatching(Merge):
    r"""Task arithmetic with each task vector weighted by the curvature it was trained under.

    :math:`w = w_0 + \sum_t \alpha_t \bar H^{-1} (H_0 + \delta_0 + H_t)(w_t - w_0)`,
    :math:`\bar H = H_0 + \delta_0 + \sum_t \alpha_t H_t`, diagonal. For quadratic losses with
    exact diagonal Hessians, fine-tuned with the penalty
    :math:`\frac12 |w - w_0|^2_{H_0 + \delta_0}`, it is the minimiser of the joint loss. With
    :math:`H_t = 0` it is task arithmetic; with :math:`H_0 + \delta_0 = 0` Fisher-weighted merging.
    :math:`\alpha_t = -1` removes a task. Daheim, Mollenhoff, Ponti, Gurevych & Khan, "Model Merging
    by Uncertainty-Based Gradient Matching", ICLR 2024, arXiv:2310.12808.

    The statistics are sums over the data, not means: `thalweg.merge.fisher_diagonal` times the
    number of samples, as ``scales`` does. Tensors without them are merged by task arithmetic.
    Where :math:`\bar H` is not positive nothing is known, and the same is done.

    Args:
        weights: :math:`\alpha_t`, one a model; 1 unless given.
        delta: :math:`\delta_0 \ge 0`, the precision of the prior around zero.
        scales: one a model, then the base's: what each Fisher is multiplied by, such as its number
            of samples; 1 unless given.

    Raises:
        UsageError: impossible settings.
    """

    weights: tuple[float, ...] | None = None
    delta: float = 1e-12
    scales: tuple[float, ...] | None = None
    needs_base: ClassVar[bool] = True
    needs_statistics: ClassVar[Literal["fisher", "gram"] | None] = "fisher"
    needs_base_statistics: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", check_weights("weights", self.weights, signed=True))
        object.__setattr__(self, "scales", check_weights("scales", self.scales))
        check_number("gradient-matching-merge: delta", self.delta, "[0, inf)")

    def check(self, count: int) -> None:
        """Raise UsageError unless there is a scale for every model and the base."""
        super().check(count)
        if self.scales is not None and len(self.scales) != count + 1:
            raise UsageError(
                f"gradient-matching-merge: scales are one a model and the base's last, "
                f"{count + 1} in all; found {len(self.scales)}"
            )

    def combine(self, piece: Piece, measured: None) -> Tensor:
        """Return the base plus the weighted task vectors."""
        del measured
        assert piece.base is not None
        deltas = piece.deltas
        count = len(deltas)
        weights = self.weights or (1.0,) * count
        result = piece.base.clone()
        if not piece.statistics or piece.base_statistics is None:
            for tau, weight in zip(deltas, weights, strict=True):
                result.add_(tau, alpha=weight)
            return result
        scales = self.scales or (1.0,) * (count + 1)
        prior = piece.base_statistics * scales[-1] + self.delta
        total = prior.clone()
        for curvature, weight, scale in zip(piece.statistics, weights, scales, strict=False):
            total.add_(curvature, alpha=weight * scale)
        known = total > 0
        total.masked_fill_(~known, 1)
        for tau, curvature, weight, scale in zip(
            deltas, piece.statistics, weights, scales, strict=False
        ):
            share = torch.where(known, (prior + curvature * scale) / total, 1.0)
            result.addcmul_(share, tau, value=weight)
        return result
