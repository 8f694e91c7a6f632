"""The spectral density of a curvature matrix by stochastic Lanczos quadrature."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.core.seeds import generator
from thalweg.landscape.curvature.lanczos import Lanczos, Operator, signs
from thalweg.landscape.objective import Progress
from thalweg.landscape.results import Saved

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class SpectralDensity(Saved):
    r"""How the eigenvalues of a matrix are distributed, as quadrature rules.

    A probe v gives nodes and weights with :math:`\sum_k w_k f(x_k) = v^\top f(A) v / |v|^2`,
    exactly for polynomials up to degree 2 m - 1; its expectation is :math:`\mathrm{tr} f(A) / n`.

    Attributes:
        nodes: shape (probes, steps), float64.
        weights: likewise, positive; each row adds up to 1.
        size: n.
        products: how many products with the matrix it took.
    """

    nodes: Tensor
    weights: Tensor
    size: int
    products: int

    def mean(self, function: Callable[[Tensor], Tensor]) -> tuple[float, float]:
        r"""Return :math:`\mathrm{tr} f(A) / n` and its standard error over probes.

        The error is NaN with one probe.
        """
        each = (self.weights * function(self.nodes)).sum(1)
        return float(each.mean()), _error(each)

    def curve(
        self, points: int = 1000, width: float | None = None, margin: float = 0.05
    ) -> tuple[Tensor, Tensor, Tensor]:
        r"""Return positions, the density there, and its standard error over probes.

        Each node becomes a normal density of standard deviation ``width``, by default the
        published choice :math:`\sqrt{10^{-5} \max(1, x_{max} - x_{min})}` (Ghorbani et al. 2019).
        The density integrates to 1 up to what lies beyond the margin.

        Args:
            points: how many positions, evenly from the least to the largest node and a margin.
            width: of each node.
            margin: on each side, as a share of the range, at least four widths.

        Raises:
            UsageError: fewer than two points or a width that is not positive.
        """
        low, high = float(self.nodes.min()), float(self.nodes.max())
        if width is None:
            width = math.sqrt(1e-5 * max(1.0, high - low))
        if points < 2 or not width > 0:
            raise UsageError(
                f"a curve needs two points and a positive width, found {points} and {width}"
            )
        pad = max(margin * (high - low), 4 * width)
        x = torch.linspace(low - pad, high + pad, points, dtype=torch.float64)
        rows = []
        for nodes, weights in zip(self.nodes, self.weights, strict=True):
            bells = torch.exp(-0.5 * ((x[:, None] - nodes) / width).square())
            rows.append(bells @ weights / (width * math.sqrt(2 * math.pi)))
        each = torch.stack(rows)
        return x, each.mean(0), _errors(each)

    def plot(
        self, path: str | os.PathLike[str] | None = None, *, width: float | None = None
    ) -> Figure:
        """Draw the density with a band of two standard errors, on a log scale.

        Args:
            path: a file to write, in ``.svg``, ``.pdf`` or ``.png``.
            width: of each node; see `curve`.

        Raises:
            UsageError: matplotlib is missing, or an impossible argument.
        """
        from thalweg.landscape.figures.lines import draw_density

        return draw_density(self, path, width)


def spectral_density(
    operator: Operator,
    *,
    probes: int = 10,
    steps: int = 50,
    seed: int = 0,
    progress: Progress | None = None,
) -> SpectralDensity:
    """Return the spectral density by stochastic Lanczos quadrature.

    For each of some random vectors of signs, Lanczos' method gives a tridiagonal T; the nodes are
    its eigenvalues, the weights the squared first entries of its eigenvectors. Ghorbani, Krishnan
    & Xiao, "An Investigation into Neural Net Optimization via Hessian Eigenvalue Density", 2019,
    arXiv 1901.10159 (whose probes are Gaussian; signs have less variance).

    Args:
        operator: a symmetric matrix.
        probes: how many random vectors.
        steps: products a probe, fewer if the matrix is smaller.
        seed: of the vectors.
        progress: told how many of how many products are taken.

    Raises:
        UsageError: an impossible argument, or a product that is not finite.
    """
    if probes < 1 or steps < 1:
        raise UsageError(f"a density needs one probe and one step, found {probes} and {steps}")
    steps = min(steps, operator.shape[0])
    nodes = torch.zeros(probes, steps, dtype=torch.float64)
    weights = torch.zeros_like(nodes)
    taken = 0
    for probe in range(probes):
        random = generator(seed, "spectral density", probe)
        lanczos = Lanczos(operator, signs(operator, random), random)
        while lanczos.steps < steps and not (lanczos.steps and lanczos.residual == 0):
            lanczos.step()
            if progress is not None:
                progress(probe * steps + lanczos.steps, probes * steps)
        values, vectors = torch.linalg.eigh(lanczos.matrix())
        # A space that closed early needs no more nodes; the rest weigh nothing.
        nodes[probe] = values[-1]
        nodes[probe, : len(values)] = values
        weights[probe, : len(values)] = vectors[0].square()
        taken += lanczos.steps
    return SpectralDensity(nodes, weights, operator.shape[0], taken)


def _error(each: Tensor) -> float:
    return float(_errors(each.unsqueeze(1)))


def _errors(each: Tensor) -> Tensor:
    if len(each) == 1:
        return torch.full_like(each[0], math.nan)
    return each.std(0) / math.sqrt(len(each))
