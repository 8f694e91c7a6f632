"""Matrix functions that rules share."""

import torch
from torch import Tensor

Coefficients = tuple[float, float, float]

QUINTIC: Coefficients = (3.4445, -4.7750, 2.0315)


def newton_schulz(
    x: Tensor, steps: int = 5, coefficients: Coefficients = QUINTIC, eps: float = 1e-7
) -> Tensor:
    """Push the singular values of a matrix towards 1 by a quintic Newton-Schulz iteration.

    ``X <- x / (|x|_F + eps)``, then ``steps`` times ``A = X X^T``, ``X <- a X + (b A + c A A) X``,
    which maps every singular value s to ``a s + b s^3 + c s^5``. With the default coefficients
    those of [0.01, 1] end in [0.68, 1.14]: the polar factor U V^T up to that band.

    Args:
        x: shape (rows, columns); half precisions are worked in as they are, so choose the dtype.
        steps: number of iterations.
        coefficients: (a, b, c).
        eps: added to the Frobenius norm, so that a zero matrix stays zero.

    Returns:
        A matrix of the shape and dtype of ``x``.

    Reference: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024).
    """
    a, b, c = coefficients
    wide = x.size(-2) <= x.size(-1)
    y = x if wide else x.mT
    y = y / (torch.linalg.vector_norm(y) + eps)
    for _ in range(steps):
        gram = y @ y.mT
        y = torch.addmm(y, torch.addmm(gram, gram, gram, beta=b, alpha=c), y, beta=a)
    return y if wide else y.mT


def orthogonalising_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype that `newton_schulz` should run in: exact for float64, else the fastest.

    On CPUs float32 products run faster than bfloat16 ones; on accelerators it is the reverse.
    """
    if x.dtype == torch.float64:
        return torch.float64
    return torch.float32 if x.device.type == "cpu" else torch.bfloat16


def merge_axes(shape: tuple[int, ...], limit: int) -> tuple[int, ...]:
    """Return the shape with neighbouring axes merged while each product stays within ``limit``."""
    merged: list[int] = []
    for size in shape:
        if merged and merged[-1] * size <= limit:
            merged[-1] *= size
        else:
            merged.append(size)
    return tuple(merged)
