"""The perturbation of SAM: the vector of given norm that is dual to the gradient."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.engine.distributed import gathered, is_distributed, local, summed

_LOW_PRECISION = (torch.bfloat16, torch.float16)


def dual_vector(gradients: Sequence[Tensor], rho: float, p: float) -> list[Tensor]:
    r"""Return the vector ``e`` of p-norm ``rho`` with the largest product with the gradients.

    :math:`e = \rho \, \mathrm{sign}(g) |g|^{q-1} / \|g\|_q^{q-1}` with :math:`1/p + 1/q = 1`, over
    all tensors as one vector; zero for a zero gradient, NaN where NaN is. The formula is that of
    `SAM`, written so that no power over- or underflows.

    Args:
        gradients: dense tensors; of sharded ones (DTensor) the norms are those of the whole.
        rho: the radius.
        p: the norm of the radius, in [1, inf].

    Returns:
        One tensor for each, of its shape (for a sharded one, of its local part) and dtype
        (float32 for one of 16 bits).

    Raises:
        UsageError: a gradient is sparse.
    """
    for gradient in gradients:
        if gradient.layout is not torch.strided:
            raise UsageError(
                "SAM takes dense gradients, found a sparse one; make the embedding with "
                "sparse=False"
            )
    parts = [_wide(local(gradient)) for gradient in gradients]
    if not any(gradient.numel() for gradient in gradients):
        return parts
    if p == 2:
        norm = _divisor(total_norm(gradients))
        return [g / norm.to(g) * rho for g in parts]
    if p == math.inf:
        norm = total_norm(gradients)
        radius = rho * (norm / _divisor(norm))  # rho, 0 or NaN
        return [torch.sgn(g) * radius.to(g) for g in parts]
    largest = _largest(gradients)
    if p == 1:
        hits = [g.abs() == largest.to(g) for g in parts]
        ties = _total([hit.sum() for hit in hits], gradients).to(largest)
        share = rho / ties  # inf if NaN is the largest, which makes NaN of everything
        return [torch.sgn(g) * hit * share.to(g) for g, hit in zip(parts, hits, strict=True)]
    q = p / (p - 1)
    unit = [g.abs() / _divisor(largest).to(g) for g in parts]
    norm = _divisor(_total([u.pow(q).sum() for u in unit], gradients) ** (1 / q))
    return [
        torch.sgn(g) * (u / norm.to(g)).pow(q - 1) * rho for g, u in zip(parts, unit, strict=True)
    ]


def total_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm of all tensors as one vector, 0-d, the same on every process."""
    wide = [_wide(g) for g in gradients if g.numel()]
    kinds = ([g for g in wide if is_distributed(g)], [g for g in wide if not is_distributed(g)])
    norms = [gathered(nn.utils.get_total_norm(kind)) for kind in kinds if kind]
    return torch.linalg.vector_norm(torch.stack(norms)) if len(norms) > 1 else norms[0]


def _largest(gradients: Sequence[Tensor]) -> Tensor:
    """Return the largest absolute entry of all tensors, 0-d, on every process; inf for NaN.

    Not torch's norm: it refuses the empty shard that a small tensor leaves some process with.
    """
    by_mesh: dict[Any, list[Tensor]] = {}
    for gradient in gradients:
        mesh = gradient.device_mesh if is_distributed(gradient) else None  # type: ignore[attr-defined]
        size = _wide(local(gradient)).abs()
        by_mesh.setdefault(mesh, []).append(size.amax() if size.numel() else size.new_zeros(()))
    maxima = []
    for mesh, values in by_mesh.items():
        # A maximum over processes may lose a NaN. An infinity gets through, and makes NaN of
        # the sums that follow.
        value = torch.stack([x.to(values[0].device) for x in values]).amax()
        value = value.nan_to_num(nan=math.inf, posinf=math.inf)
        maxima.append(value if mesh is None else _maximum_over(mesh, value))
    return torch.stack([x.to(maxima[0].device) for x in maxima]).amax()


def _maximum_over(mesh: Any, value: Tensor) -> Tensor:
    from torch.distributed.tensor import DTensor, Partial

    return DTensor.from_local(value, mesh, [Partial("max")] * mesh.ndim).full_tensor()


def _wide(gradient: Tensor) -> Tensor:
    return gradient.float() if gradient.dtype in _LOW_PRECISION else gradient


def _total(sums: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """Return the sum over all tensors and processes of sums over local parts."""
    whole = [summed(x, gradient) for x, gradient in zip(sums, gradients, strict=True)]
    return torch.stack([x.to(whole[0].device) for x in whole]).sum()


def _divisor(norm: Tensor) -> Tensor:
    """Return the norm, and 1 for 0, so that a zero gradient gives zero and not NaN."""
    return torch.where(norm == 0, torch.ones_like(norm), norm)
