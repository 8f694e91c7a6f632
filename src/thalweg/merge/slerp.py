"""Spherical linear interpolation."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from thalweg.core.checks import check_choice, check_number
from thalweg.merge.method import Measure, Merge, Piece

_PARALLEL = 1e-6


@dataclass(frozen=True)
class SLERP(Merge):
    r"""The point on the arc between two models.

    With :math:`\Omega` the angle between :math:`w_1` and :math:`w_2`,

    :math:`w = \frac{\sin((1 - t) \Omega)}{\sin \Omega} w_1 + \frac{\sin(t \Omega)}{\sin \Omega}
    w_2`. Between vectors of one length the length stays. Tensor by tensor, each flattened, or
    over the whole models as one vector. Where the vectors are parallel or opposite to within
    1e-6 rad, or one of them is zero, no arc is defined: those are interpolated linearly. Shoemake,
    "Animating Rotation with Quaternion Curves", SIGGRAPH 1985.

    Args:
        t: where on the arc, 0 at the first model and 1 at the second.
        scope: "tensor" or "global".

    Raises:
        UsageError: impossible settings.
    """

    t: float = 0.5
    scope: Literal["tensor", "global"] = "tensor"  # type: ignore[misc]
    least: ClassVar[int] = 2
    most: ClassVar[float] = 2

    def __post_init__(self) -> None:
        check_number("slerp: t", self.t, "[0, 1]")
        check_choice("slerp: scope", self.scope, ("tensor", "global"))

    def measure(self, count: int) -> Measure:
        """Return what measures the angle."""
        return Products(count)

    def combine(self, piece: Piece, measured: "Products") -> Tensor:
        """Return the point on the arc."""
        one, other = piece.models
        angle = measured.angle()
        if min(angle, math.pi - angle) < _PARALLEL:
            return torch.lerp(one, other, self.t)
        a, b = (math.sin(x * angle) / math.sin(angle) for x in (1 - self.t, self.t))
        return (one * a).add_(other, alpha=b)


class Products(Measure):
    """Inner products of all pairs, of the models or of their task vectors.

    Within a piece in its dtype, among pieces in float64.
    """

    def __init__(self, count: int, *, of_deltas: bool = False) -> None:
        self._of_deltas = of_deltas
        self.gram = torch.zeros(count, count, dtype=torch.float64)

    def add(self, turn: int, piece: Piece) -> None:
        """Add a piece's share."""
        del turn
        vectors = piece.deltas if self._of_deltas else piece.models
        flat = [x.flatten() for x in vectors]
        for i, x in enumerate(flat):
            for j, y in enumerate(flat[: i + 1]):
                self.gram[i, j] += torch.dot(x, y).item()

    def cosine(self, i: int, j: int) -> float:
        """Return the cosine of the angle between two; 1 if one of them is zero."""
        i, j = max(i, j), min(i, j)
        scale = math.sqrt(self.gram[i, i].item()) * math.sqrt(self.gram[j, j].item())
        return max(-1.0, min(1.0, self.gram[i, j].item() / scale)) if scale else 1.0

    def angle(self) -> float:
        """Return the angle between the first two."""
        return math.acos(self.cosine(0, 1))
