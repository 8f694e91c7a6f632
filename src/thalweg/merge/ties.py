"""TIES merging."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from thalweg.core.checks import check_choice, check_flag, check_number
from thalweg.core.shares import check_weights
from thalweg.merge.method import Measure, Merge, Piece, each_model, spread
from thalweg.merge.thresholds import Thresholds, kept


@dataclass(frozen=True)
class TIES(Merge):
    r"""Task vectors trimmed, given one sign an entry, and averaged where they have it.

    On task vectors :math:`\tau_t = w_t - w_0`: (1) trim: of each, keep the ``density`` share of
    entries that is largest in magnitude; (2) elect: the sign of an entry is that of
    :math:`\sum_t \alpha_t \tau_t`, and where that is 0 the sign that most elected entries have;
    (3) average, disjointly: the mean over the :math:`\tau_t` that are not 0 and have that sign;
    (4) :math:`w = w_0 + \lambda \tau`. Yadav, Tam, Choshen, Raffel & Bansal, "TIES-Merging:
    Resolving Interference When Merging Models", NeurIPS 2023, arXiv:2306.01708.

    ``scope="global"`` trims and counts over the whole model, as the paper and its code do;
    "tensor" does both within each tensor, as mergekit does: the two differ where layers have
    moved unequally far.

    Differences: the authors' mask keeps one entry more than the share asks for; this keeps
    round(density x entries), and all that equal the last of them. If as many entries were elected
    positive as negative, their code takes the minus sign for the rest; this leaves those alone.

    Args:
        density: the share to keep, in (0, 1], or one a model; the paper's default.
        scale: :math:`\lambda`, 1 without validation; the paper searches 0.8 to 2.5 with it.
        weights: :math:`\alpha_t \ge 0`, one a model; equal unless given.
        scope: "global" or "tensor".
        normalise: whether (3) divides by the weights that took part; else it is a sum.

    Raises:
        UsageError: impossible settings.
    """

    density: float | tuple[float, ...] = 0.2
    scale: float = 1.0
    weights: tuple[float, ...] | None = None
    scope: Literal["global", "tensor"] = "global"  # type: ignore[misc]
    normalise: bool = True
    needs_base: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "density", each_model("ties: density", self.density, "(0, 1]"))
        check_number("ties: scale", self.scale, "(-inf, inf)")
        check_choice("ties: scope", self.scope, ("global", "tensor"))
        check_flag("ties: normalise", self.normalise)
        object.__setattr__(self, "weights", check_weights("weights", self.weights))

    def measure(self, count: int) -> Measure:
        """Return what measures thresholds and the majority sign."""
        return _Election(self, count)

    def combine(self, piece: Piece, measured: "_Election") -> Tensor:
        """Return the base plus the elected mean."""
        assert piece.base is not None
        trimmed = measured.trimmed(piece)
        # Halves decide what is 0 and change nothing else.
        elected = measured.signs(trimmed).add_(0.5 * measured.majority).sign_()
        total = torch.zeros_like(piece.base)
        taken = torch.zeros_like(piece.base)
        for tau, weight in zip(trimmed, measured.weights, strict=True):
            agreeing = tau.mul_(elected).clamp_(min=0)
            total.add_(agreeing, alpha=weight)
            taken.add_(agreeing.sign_(), alpha=weight)
        if self.normalise:
            total.div_(taken.clamp_(min=torch.finfo(taken.dtype).tiny))
        return total.mul_(elected).mul_(self.scale).add_(piece.base)


class _Election(Measure):
    """Each task vector's threshold, then which sign most entries elect."""

    def __init__(self, settings: TIES, count: int) -> None:
        self.weights = settings.weights or (1.0,) * count
        self.majority = 0.0
        self._balance = 0
        densities = spread(settings.density, count)
        self._thresholds = None if min(densities) == 1 else Thresholds(densities)

    @property
    def passes(self) -> int:  # type: ignore[override]
        return self._counting + 1

    @property
    def _counting(self) -> int:
        return self._thresholds.passes if self._thresholds else 0

    def part(self, turn: int, size: int) -> int:
        return self._thresholds.part(turn, size) if self._thresholds else size

    def add(self, turn: int, piece: Piece) -> None:
        if self._thresholds is not None and turn < self._counting:
            self._thresholds.add(turn, piece.deltas, piece.stands_for)
        else:
            self._balance += int(self.signs(self.trimmed(piece)).sum())

    def end(self, turn: int) -> None:
        if self._thresholds is not None and turn < self._counting:
            self._thresholds.end(turn)
        else:
            self.majority = float((self._balance > 0) - (self._balance < 0))

    def trimmed(self, piece: Piece) -> list[Tensor]:
        """Return the task vectors with all entries below their thresholds set to 0."""
        deltas = piece.deltas
        if self._thresholds is not None:
            return [
                kept(tau, least) for tau, least in zip(deltas, self._thresholds.least, strict=True)
            ]
        return deltas

    def signs(self, trimmed: list[Tensor]) -> Tensor:
        first, *others = self.weights
        total = trimmed[0].clone() if first == 1 else trimmed[0] * first
        for tau, weight in zip(trimmed[1:], others, strict=True):
            total.add_(tau, alpha=weight)
        return total.sign_()
