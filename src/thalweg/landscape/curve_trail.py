"""Where a curve between solutions lies on a plane."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from thalweg.landscape.curve import Curve
from thalweg.landscape.geometry import Vector
from thalweg.landscape.grid import Trail

POINTS = 101
"""Points at which a curve is drawn."""


def curve_trail(
    corners: Sequence[Vector],
    shape: tuple[float, float, float],
    name: str,
    curve: Curve,
    vectors: Sequence[Vector],
) -> Trail:
    r"""Return a curve as it lies on the plane through three solutions.

    Its points :math:`w_j` are projected; as :math:`\phi(t) = \sum_j c_j(t) w_j` with coefficients
    that add up to 1, it has the same mix of their coordinates, and
    :math:`\sum_j c_j(t) r_j` leads from the plane to it, :math:`r_j` from the plane to
    :math:`w_j`.

    Args:
        corners: the three solutions, as `vectors_of` gives them.
        shape: as `frame` gives it: where the third lies on the x axis, and the second's place.
        name: the trail's.
        curve: what is drawn.
        vectors: its points, like the corners.
    """
    dx, px, dy = shape

    def parts() -> Iterator[tuple[Tensor, Tensor]]:
        """Yield unit vectors of the plane and the points from its origin, tensor by tensor."""
        for start, second, third, *points in zip(*corners, *vectors, strict=True):
            o = start.double().flatten()
            right = (third.double().flatten() - o) / dx
            up = (second.double().flatten() - o - px * right) / dy
            yield (
                torch.stack([right, up]),
                torch.stack([p.to(start.device).double().flatten() - o for p in points]),
            )

    place = torch.stack([(points @ plane.mT).cpu() for plane, points in parts()]).sum(0)
    gram = torch.zeros(len(vectors), len(vectors), dtype=torch.float64)
    for plane, points in parts():
        rest = points - place.to(points) @ plane
        gram += (rest @ rest.mT).cpu()
    mixes = torch.tensor(
        [curve.coefficients(k / (POINTS - 1)) for k in range(POINTS)], dtype=torch.float64
    )
    x, y = (mixes @ place).mT.tolist()
    apart = ((mixes @ gram) * mixes).sum(1).clamp(min=0).sqrt()
    return Trail(name, tuple(range(POINTS)), tuple(x), tuple(y), tuple(apart.tolist()), smooth=True)
