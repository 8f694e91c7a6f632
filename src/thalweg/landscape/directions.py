"""Random directions in weight space, on the scale of the weights themselves."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from thalweg.core.errors import UsageError, did_you_mean
from thalweg.core.seeds import generator
from thalweg.landscape.objective import Objective

Normalisation = Literal["none", "layer", "filter", "adaptive"]
NORMALISATIONS: tuple[Normalisation, ...] = get_args(Normalisation)

Direction = list[Tensor]
"""A displacement, tensor by tensor, of the trainable parameters in their order."""


def random_directions(
    objective: Objective,
    count: int = 2,
    normalisation: Normalisation = "filter",
    *,
    seed: int = 0,
) -> list[Direction]:
    r"""Return random directions that are orthogonal to one another up to rounding.

    Each begins as standard normal numbers and is then scaled:

    - "filter": tensor by tensor, each slice along the first axis (a convolution's filter, a linear
      layer's row) to the norm of the weights' slice, so that networks that differ by a rescaling
      of filters have the same surface. Li et al., "Visualizing the Loss Landscape of Neural Nets",
      2018, arXiv 1712.09913.
    - "layer": each tensor to the norm of the weights' tensor.
    - "adaptive": each entry times the magnitude of the weight.
    - "none": the whole to norm 1.

    Under "filter" and "layer" biases and other tensors of one axis stay where they are, as in the
    paper's figures, and so do slices of a single entry, which have no two orthogonal directions.
    Orthogonality is made within each slice, tensor or whole before scaling, so that scaling does
    not undo it; the authors' code does not orthogonalise.

    Args:
        objective: whose model's weights give the scale.
        count: how many directions.
        normalisation: one of the above.
        seed: of the draws; a tensor's draw depends on its place and on nothing else.

    Raises:
        UsageError: an unknown normalisation, fewer than one direction, more directions than a
            slice has entries, weights that are not finite, or nothing left to move.
    """
    if normalisation not in NORMALISATIONS:
        hint = did_you_mean(normalisation, NORMALISATIONS)
        raise UsageError(f'unknown normalisation "{normalisation}".{hint}')
    if count < 1:
        raise UsageError(f"a surface needs one direction at least, found {count}")
    params = objective.sound()
    drawn = [_drawn(p, count, seed, place) for place, p in enumerate(params)]
    scaled: list[Tensor]
    if normalisation == "none":
        whole = torch.cat([x.reshape(count, -1) for x in drawn], 1)
        parts = _orthonormal(whole).split([p.numel() for p in params], 1)
        scaled = [x.reshape(count, *p.shape) for x, p in zip(parts, params, strict=True)]
    else:
        scale = {"filter": _by_filter, "layer": _by_layer, "adaptive": _by_entry}[normalisation]
        scaled = [scale(x, p.detach().double()) for x, p in zip(drawn, params, strict=True)]
    if all(bool((x == 0).all()) for x in scaled):
        raise UsageError(
            f'"{normalisation}" moves tensors of two axes or more whose weights are not zero, and '
            'the model has none that is trainable; use "none" or "adaptive"'
        )
    return [[x[i].to(p) for x, p in zip(scaled, params, strict=True)] for i in range(count)]


def check_direction(objective: Objective, direction: Sequence[Tensor]) -> Direction:
    """Return the direction in the parameters' dtypes.

    Raises:
        UsageError: it does not fit the trainable parameters, is not finite or has norm zero.
    """
    params = objective.trainable()
    shapes = [tuple(p.shape) for p in params]
    if [tuple(x.shape) for x in direction] != shapes:
        raise UsageError(
            f"a direction has one tensor for each of the {len(params)} trainable parameters, of "
            f"its shape; found {[tuple(x.shape) for x in direction]}"
        )
    if not all(bool(x.isfinite().all()) for x in direction):
        raise UsageError("the direction is not finite everywhere")
    if all(bool((x == 0).all()) for x in direction):
        raise UsageError("the direction has norm zero, so nothing changes along it")
    return [x.detach().to(p) for x, p in zip(direction, params, strict=True)]


def _drawn(p: Tensor, count: int, seed: int, place: int) -> Tensor:
    random = generator(seed, "direction", place)
    # One by one, so that the first direction does not depend on how many there are.
    some = [torch.randn(p.shape, generator=random, dtype=torch.float64) for _ in range(count)]
    return torch.stack(some).to(p.device)


def _orthonormal(rows: Tensor) -> Tensor:
    """Return rows, shape (..., count, entries), made orthonormal one after the other."""
    count, entries = rows.shape[-2:]
    if entries < count:
        raise UsageError(
            f"{count} orthogonal directions do not fit into a slice of {entries} entries"
        )
    q, r = torch.linalg.qr(rows.mT)
    return (q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)).mT


def _by_filter(drawn: Tensor, p: Tensor) -> Tensor:
    if p.ndim < 2 or p[0].numel() < 2:
        return torch.zeros_like(drawn)
    slices = drawn.reshape(len(drawn), len(p), -1).transpose(0, 1)
    norms = torch.linalg.vector_norm(p.reshape(len(p), -1), dim=1)
    return (_orthonormal(slices) * norms[:, None, None]).transpose(0, 1).reshape(drawn.shape)


def _by_layer(drawn: Tensor, p: Tensor) -> Tensor:
    if p.ndim < 2 or p.numel() < 2:
        return torch.zeros_like(drawn)
    rows = _orthonormal(drawn.reshape(len(drawn), -1))
    return (rows * torch.linalg.vector_norm(p)).reshape(drawn.shape)


def _by_entry(drawn: Tensor, p: Tensor) -> Tensor:
    rows = (drawn * p.abs()).reshape(len(drawn), -1)
    for i in range(1, len(rows)):
        for j in range(i):
            square = rows[j] @ rows[j]
            if square > 0:
                rows[i] -= (rows[i] @ rows[j]) / square * rows[j]
    return rows.reshape(drawn.shape)
