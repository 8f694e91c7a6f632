"""Trace and diagonal of a matrix from few products."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from thalweg.core.errors import UsageError, did_you_mean
from thalweg.core.seeds import generator
from thalweg.landscape.curvature.lanczos import Operator, gaussian, signs
from thalweg.landscape.results import Saved

Method = Literal["xtrace", "hutch++", "hutchinson"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True)
class Estimate(Saved):
    """An estimate by random probes.

    Attributes:
        value: the estimate.
        error: its standard error, NaN where one probe gives none.
        products: how many products with the matrix it took.
    """

    value: float
    error: float
    products: int


def trace(
    operator: Operator, products: int = 40, method: Method = "xtrace", *, seed: int = 0
) -> Estimate:
    r"""Return an estimate of the trace of a symmetric matrix from so many products.

    - "hutchinson": the mean of :math:`z^\top A z` over random signs z; its variance is
      :math:`2 (|A|_F^2 - \sum_i A_{ii}^2)` over the number of probes. Hutchinson 1990.
    - "hutch++": a third of the products spans a basis Q of what is large in A, whose part
      :math:`\mathrm{tr}(Q^\top A Q)` is exact; another third is Hutchinson's estimate of the rest.
      Meyer et al., "Hutch++: Optimal Stochastic Trace Estimation", 2021, arXiv 2010.09649.
    - "xtrace": every probe in turn is Hutchinson's for the basis of all others; half of the
      products each. Epperly, Tropp & Webber, "XTrace: Making the Most of Every Sample in
      Stochastic Trace Estimation", 2024, arXiv 2301.07825, with probes of length sqrt(n) and
      their normalisation. Exact for matrices of a rank below half of the products.

    Args:
        operator: a symmetric matrix.
        products: how many products may be taken; where the matrix is no larger, it is read off
            its diagonal exactly.
        method: one of the above.
        seed: of the probes.

    Raises:
        UsageError: an unknown method, or too few products for it.
    """
    if method not in METHODS:
        raise UsageError(f'unknown method "{method}".{did_you_mean(method, METHODS)}')
    n = operator.shape[0]
    if products >= n:
        unit = torch.eye(n, dtype=operator.dtype, device=operator.device)
        return Estimate(float((operator @ unit).diagonal().double().sum()), 0.0, n)
    least = {"hutchinson": 1, "hutch++": 3, "xtrace": 4}[method]
    if products < least:
        raise UsageError(f"{method} needs {least} products at least, found {products}")
    random = generator(seed, "trace", method)
    if method == "hutchinson":
        each = _hutchinson(operator, products, random)
        return Estimate(float(each.mean()), _error(each), products)
    if method == "hutch++":
        return _hutch_plus_plus(operator, products // 3, random)
    return _xtrace(operator, products // 2, random)


def diagonal(operator: Operator, products: int = 40, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    r"""Return an estimate of the diagonal and its standard error by entry, shape (n,) each.

    The mean of :math:`z \odot A z` over random signs z; exact for diagonal matrices. Bekas et al.,
    "An Estimator for the Diagonal of a Matrix", 2007. The error is NaN with one product.

    Raises:
        UsageError: no product.
    """
    if products < 1:
        raise UsageError(f"a diagonal needs one product at least, found {products}")
    random = generator(seed, "diagonal")
    total = torch.zeros(operator.shape[0], dtype=torch.float64, device=operator.device)
    squares = torch.zeros_like(total)
    for count in range(1, products + 1):
        z = signs(operator, random)
        x = (z * (operator @ z)).double()
        apart = x - total
        total += apart / count
        squares += apart * (x - total)
    if products == 1:
        return total, torch.full_like(total, math.nan)
    return total, (squares / (products - 1) / products).sqrt()


def _hutchinson(operator: Operator, probes: int, random: torch.Generator) -> Tensor:
    """Return the estimate of each probe."""
    found = []
    for _ in range(probes):
        z = signs(operator, random)
        found.append(torch.dot(z.double(), (operator @ z).double()))
    return torch.stack(found).cpu()


def _hutch_plus_plus(operator: Operator, third: int, random: torch.Generator) -> Estimate:
    sketch = operator @ _columns(operator, third, random, signs)
    q = torch.linalg.qr(sketch.double())[0]
    inside = (q * (operator @ q.to(operator.dtype)).double()).sum()
    g = _columns(operator, third, random, signs).double()
    g = g - q @ (q.mT @ g)
    rest = (g * (operator @ g.to(operator.dtype)).double()).sum(0).cpu()
    return Estimate(float(inside) + float(rest.mean()), _error(rest), 3 * third)


def _xtrace(operator: Operator, m: int, random: torch.Generator) -> Estimate:
    n = operator.shape[0]
    omega = _columns(operator, m, random, gaussian).double()
    omega = omega * (math.sqrt(n) / torch.linalg.vector_norm(omega, dim=0))
    sketch = (operator @ omega.to(operator.dtype)).double()
    if _rank(sketch) < m:
        # The space of the probes holds all of the matrix, so the trace on it is all of the trace.
        q = torch.linalg.svd(sketch, full_matrices=False)[0][:, : _rank(sketch)]
        value = (q * (operator @ q.to(operator.dtype)).double()).sum()
        return Estimate(float(value), 0.0, m + q.shape[1])
    q, r = torch.linalg.qr(sketch)
    image = (operator @ q.to(operator.dtype)).double()
    # Column i of s spans what the basis without probe i lacks of the whole basis.
    s = torch.linalg.inv(r).mT
    s = s / torch.linalg.vector_norm(s, dim=0)
    h, w, t = q.mT @ image, q.mT @ omega, image.mT @ omega
    hw, share, within = h @ w, (s * w).sum(0), (s * (h @ s)).sum(0)
    # With P_i the projection on the basis without i: z' (1 - P_i) A (1 - P_i) z, expanded.
    rest = (w * hw).sum(0) - (t * w).sum(0) + share * ((t - h.mT @ w) * s).sum(0)
    rest = rest + share**2 * within + share * (s * (r - hw)).sum(0)
    # Probes have length sqrt(n); what is left of them is scaled to that of its complement.
    scale = (n - m + 1) / (n - w.square().sum(0) + share**2)
    each = (h.trace() - within + rest * scale).cpu()
    return Estimate(float(each.mean()), _error(each), 2 * m)


def _rank(x: Tensor) -> int:
    values = torch.linalg.svdvals(x)
    return int((values > values[0] * 1e-6).sum()) if values[0] > 0 else 0


def _columns(
    operator: Operator,
    count: int,
    random: torch.Generator,
    draw: Callable[[Operator, torch.Generator], Tensor],
) -> Tensor:
    return torch.stack([draw(operator, random) for _ in range(count)], 1)


def _error(each: Tensor) -> float:
    return float(each.std() / math.sqrt(len(each))) if len(each) > 1 else math.nan
