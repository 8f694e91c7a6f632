"""Masks of the entries in which a direction and the gradient agree."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from thalweg.engine.rule import Numbers, Rule, State

Scaling = Literal["mean", "count"]


@dataclass(frozen=True)
class Cautious(Rule):
    """Base of rules that move only the entries in which a direction agrees with the gradient.

    `measure_each` returns `agreement`; the direction is then multiplied by the mask and by
    ``k.scale``, the `scale` of the tensor.
    """

    scaling: Scaling = "mean"

    def numbers_each(
        self, sums: Mapping[str, float], p: Tensor, s: State, k: Numbers
    ) -> dict[str, float]:
        """Return what makes up for the entries that rest."""
        del s, k
        return {"scale": scale(self.scaling, sums["agreeing"], p.numel())}


def agreement(d: Tensor, g: Tensor) -> dict[str, Tensor]:
    """Return in how many entries a direction agrees with the gradient."""
    return {"agreeing": (d * g > 0).sum()}


def scale(scaling: Scaling, agreeing: float, entries: float) -> float:
    """Return what a masked direction is multiplied by.

    "mean" divides by the share of the entries that agree, at least a thousandth; "count" by
    (their number + 1) / (number of entries).
    """
    if scaling == "count":
        return entries / (agreeing + 1)
    return entries / max(agreeing, 1e-3 * entries) if entries else 1.0
