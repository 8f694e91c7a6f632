"""Where solutions lie relative to one another in weight space."""

import itertools
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.landscape.mix import Weights

Vector = list[Tensor]
"""A point of weight space, tensor by tensor."""


class DegenerateError(UsageError):
    """Solutions that span no plane (or no line), because some coincide or all lie on one line.

    Attributes:
        distinct: solutions that differ from one another; with two or more of them, `lines` still
            has something to show.
    """

    def __init__(self, message: str, distinct: tuple[str, ...]) -> None:
        super().__init__(message)
        self.distinct = distinct


def axis(marks: Sequence[float], size: int, margin: float) -> tuple[float, ...]:
    """Return about `size` near-even coordinates over the marks and a margin, holding each mark."""
    low, high = min(marks), max(marks)
    pad = margin * (high - low)
    stops = sorted({low - pad, *marks, high + pad})
    coordinates = [stops[0]]
    for left, right in itertools.pairwise(stops):
        parts = max(1, round((size - 1) * (right - left) / (stops[-1] - stops[0])))
        coordinates += [left + (right - left) * k / parts for k in range(1, parts)] + [right]
    return tuple(coordinates)


def vectors_of(model: nn.Module, points: Mapping[str, Weights]) -> list[Vector]:
    """Return each point's parameters (weights that the optimiser moves; no buffers).

    Raises:
        UsageError: weights that are not the model's, or not finite.
    """
    aliases = list(parameter_names(model).values())
    module: nn.Module = getattr(model, "_orig_mod", model)
    shapes = {name: p.shape for name, p in module.named_parameters()}
    vectors = []
    for point, weights in points.items():
        names = [[name for name in group if name in weights] for group in aliases]
        if not all(names):
            lacking = next(g for g, n in zip(aliases, names, strict=True) if not n)
            raise UsageError(
                f'the weights of "{point}" lack "{lacking[0]}"; pass the whole state_dict'
            )
        vector = [weights[group[0]].detach() for group in names]
        for (name, shape), x in zip(shapes.items(), vector, strict=True):
            if x.shape != shape:
                raise UsageError(
                    f'the weights of "{point}" have "{name}" of shape {tuple(x.shape)}, the model '
                    f"has {tuple(shape)}; pass weights of this very architecture"
                )
        # Floats of 8 bits do not know whether they are finite.
        wide = (x.float() if x.dtype.itemsize == 1 else x for x in vector)
        if not all(bool(tensor.isfinite().all()) for tensor in wide):
            raise UsageError(f'the weights of "{point}" are not all finite; leave it out')
        vectors.append(vector)
    return vectors


def parameter_names(model: nn.Module) -> dict[str, list[str]]:
    """Return all names of each parameter by its first one; tied weights have several."""
    module: nn.Module = getattr(model, "_orig_mod", model)
    first: dict[int, str] = {}
    names: dict[str, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(first.setdefault(id(parameter), name), []).append(name)
    return names


def inner_product(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """Return the inner product of two points, computed in float64."""
    return _dot(_wide(one), _wide(other))


def _dot(one: Vector, other: Vector) -> float:
    return math.fsum(float((a * b).sum()) for a, b in zip(one, other, strict=True))


def _wide(vector: Sequence[Tensor]) -> Vector:
    return [tensor.to(torch.float64) for tensor in vector]


def _minus(one: Vector, other: Vector) -> Vector:
    return [a - b for a, b in zip(_wide(one), _wide(other), strict=True)]


def distance(one: Vector, other: Vector) -> float:
    """Return the Euclidean distance, computed in float64."""
    difference = _minus(one, other)
    return math.sqrt(_dot(difference, difference))


def frame(w1: Vector, w2: Vector, w3: Vector) -> tuple[float, float, float]:
    """Return ``|w3 - w1|`` and the coordinates of w2."""
    along, other = _minus(w3, w1), _minus(w2, w1)
    dx = math.sqrt(_dot(along, along))
    share = _dot(other, along) / dx / dx
    # The rest itself, not a difference of squares, which cancels when w2 is near the line.
    rest = [b - share * a for a, b in zip(along, other, strict=True)]
    return dx, share * dx, math.sqrt(_dot(rest, rest))


def rounding(vectors: list[Vector]) -> float:
    """Return the distance below which stored weights differ by rounding only."""
    eps = max(torch.finfo(t.dtype).eps for vector in vectors for t in vector)
    return 4 * eps * max(math.sqrt(_dot(_wide(vector), _wide(vector))) for vector in vectors)


def check_distinct(names: list[str], vectors: list[Vector], shape: str) -> None:
    """Raise DegenerateError if two of the points coincide up to rounding."""
    least = rounding(vectors)
    distinct: list[int] = []
    twins: tuple[str, str] | None = None
    for i, vector in enumerate(vectors):
        same = next((j for j in distinct if distance(vectors[j], vector) <= least), None)
        if same is None:
            distinct.append(i)
        else:
            twins = twins or (names[same], names[i])
    if twins:
        raise DegenerateError(
            f'"{twins[0]}" and "{twins[1]}" are the same point in weight space: no {shape} '
            "goes through them; leave one out",
            tuple(names[i] for i in distinct),
        )


def spanning(model: nn.Module, points: Mapping[str, Weights]) -> tuple[str, ...]:
    """Return the first points, in their order, that span a plane, or a line if none do.

    Three names are ready for `plane`, two for `lines`; one is left if all points coincide.

    Raises:
        UsageError: weights that are not the model's, or not finite.
    """
    names = list(points)
    vectors = vectors_of(model, points)
    least = rounding(vectors) if vectors else 0.0
    kept: list[int] = []
    for i, vector in enumerate(vectors):
        new = all(distance(vectors[j], vector) > least for j in kept)
        if new and (len(kept) < 2 or frame(vectors[kept[0]], vector, vectors[kept[1]])[2] > least):
            kept.append(i)
        if len(kept) == 3:
            break
    return tuple(names[i] for i in kept)
