"""Matrix functions that rules share."""

import math
import time
from functools import cache

import torch
from torch import Tensor

from thalweg.core.threads import use_threads

Coefficients = tuple[float, float, float]

QUINTIC: Coefficients = (3.4445, -4.7750, 2.0315)


def newton_schulz(
    x: Tensor, steps: int = 5, coefficients: Coefficients = QUINTIC, eps: float = 1e-7
) -> Tensor:
    """Push the singular values of matrices towards 1 by a quintic Newton-Schulz iteration.

    ``X <- x / (|x|_F + eps)``, then ``steps`` times ``A = X X^T``, ``X <- a X + (b A + c A A) X``,
    which maps every singular value s to ``a s + b s^3 + c s^5``. With the default coefficients
    those of [0.01, 1] end in [0.68, 1.14]: the polar factor U V^T up to that band.

    Where one side is at least 1.5 times the other, several steps are taken on the Gram matrix of
    the shorter side alone: with ``F = a I + b A + c A A`` the next A is ``F A F``, and X is
    multiplied once, by the product of the factors. Beside the smallest eigenvalues, rounding
    errors of A grow a^2-fold with each step, so A is taken from X anew before they have grown
    2000-fold (after every third step for the default coefficients); float32 then comes as near
    to the exact result as in the plain form. Half precisions keep to the plain form.

    Args:
        x: shape (..., rows, columns); computed in its own dtype, see `orthogonalising_dtype`.
        steps: number of iterations.
        coefficients: (a, b, c).
        eps: added to the Frobenius norm, so that a zero matrix stays zero.

    Returns:
        Matrices of the shape and dtype of ``x``.

    Reference: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024).
    """
    a, b, c = coefficients
    rows, columns = x.shape[-2:]
    y = x.reshape(math.prod(x.shape[:-2]), rows, columns)
    y = y / (torch.linalg.matrix_norm(y, keepdim=True) + eps)
    wide = rows <= columns
    long = max(rows, columns) >= 1.5 * min(rows, columns) and x.dtype.itemsize >= 4
    stride = _steps_on_gram(a) if long else 1
    for done in range(0, steps, stride):
        gram = symmetric_product(y, y.mT) if wide else symmetric_product(y.mT, y)
        if long:
            f = _product_of_factors(gram, min(stride, steps - done), coefficients)
            y = f @ y if wide else y @ f
        else:
            f = symmetric_product(gram, gram, gram, beta=b, alpha=c)
            y = torch.baddbmm(y, f, y, beta=a) if wide else torch.baddbmm(y, y, f, beta=a)
    return y.reshape(x.shape)


def _steps_on_gram(a: float) -> int:
    """Return how many steps may be taken on one Gram matrix."""
    return max(1, int(math.log(2000) / math.log(max(a * a, 2))))


def _product_of_factors(gram: Tensor, steps: int, coefficients: Coefficients) -> Tensor:
    whole = f = _factor(gram, coefficients)
    for _ in range(steps - 1):
        gram = symmetric_product(symmetric_product(gram, f), f)
        f = _factor(gram, coefficients)
        whole = symmetric_product(f, whole)
    return whole


def _factor(gram: Tensor, coefficients: Coefficients) -> Tensor:
    a, b, c = coefficients
    f = symmetric_product(gram, gram, gram, beta=b, alpha=c)
    f.diagonal(dim1=-2, dim2=-1).add_(a)
    return f


# Smaller products are not worth cutting up.
_LEAST_SIDE = 256
_LEAST_PRODUCT = 5e7


def symmetric_product(
    a: Tensor, b: Tensor, add: Tensor | None = None, *, beta: float = 1.0, alpha: float = 1.0
) -> Tensor:
    """Return ``beta add + alpha a b``, where ``a b`` is known to be symmetric.

    Of large products on CPUs only the blocks on and above the diagonal are computed, 9/16 to
    10/16 of the work; the rest is copied from them.

    Args:
        a: shape (batch, n, k).
        b: shape (batch, k, n).
        add: shape (batch, n, n), symmetric; None for nothing.
        beta: factor of ``add``.
        alpha: factor of the product.

    Returns:
        Shape (batch, n, n).
    """
    n, k = a.shape[-2:]
    if add is None:
        add, beta = a.new_empty(len(a), n, n), 0.0
    if not a.is_cpu or n < _LEAST_SIDE or n * n * k < _LEAST_PRODUCT:
        return torch.baddbmm(add, a, b, beta=beta, alpha=alpha)
    out = torch.empty_like(add)
    size = -(-n // (4 if n < 1024 else 8))
    for low in range(0, n, size):
        high = low + size
        row = out[:, low:high, low:]
        torch.baddbmm(
            add[:, low:high, low:], a[:, low:high], b[..., low:], beta=beta, alpha=alpha, out=row
        )
        out[:, high:, low:high] = row[..., size:].mT
    return out


# bfloat16 has to be this many times as fast as float32. On most devices it is once, twice, or at
# least four times as fast; at twice, the Gram form in float32 is as quick.
_MARGIN = 3.0


def orthogonalising_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype that `newton_schulz` should run in.

    float64 stays float64. All else runs in float32, or in bfloat16 if the device multiplies
    matrices at least three times as fast in that. This is measured once a process and device, in
    some milliseconds; the margin is wide, so that all processes on one machine choose alike,
    idle or busy.
    """
    return torch.float64 if x.dtype == torch.float64 else _fast_dtype(x.device)


@cache
def _fast_dtype(device: torch.device) -> torch.dtype:
    # On a busy machine threads wait for each other, which would spoil the comparison.
    with use_threads(1 if device.type == "cpu" else None):
        single = _seconds_of_product(device, torch.float32, math.inf)
        half = _seconds_of_product(device, torch.bfloat16, single)
    return torch.bfloat16 if half * _MARGIN <= single else torch.float32


def _seconds_of_product(device: torch.device, dtype: torch.dtype, hopeless: float) -> float:
    """Return the least time of eight products, or of two if those are hopelessly slow."""
    size = 256 if device.type == "cpu" else 2048
    x = torch.ones(size, size, dtype=dtype, device=device)
    best = math.inf
    for turn in range(8):
        if turn == 2 and best > hopeless:
            break
        start = time.perf_counter()
        (x @ x).trace().item()  # waits for the device
        best = min(best, time.perf_counter() - start)
    return best


def merge_axes(shape: tuple[int, ...], limit: int) -> tuple[int, ...]:
    """Return the shape with neighbouring axes merged while each product stays within ``limit``."""
    merged: list[int] = []
    for size in shape:
        if merged and merged[-1] * size <= limit:
            merged[-1] *= size
        else:
            merged.append(size)
    return tuple(merged)
