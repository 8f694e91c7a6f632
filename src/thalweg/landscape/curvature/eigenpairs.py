"""The outermost eigenvalues of a curvature matrix, with their eigenvectors and errors."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from thalweg.core.errors import UsageError, did_you_mean
from thalweg.core.seeds import generator
from thalweg.landscape.curvature.lanczos import Lanczos, Operator, gaussian
from thalweg.landscape.curvature.operators import Curvature
from thalweg.landscape.objective import Progress
from thalweg.landscape.results import Saved

if TYPE_CHECKING:
    from matplotlib.figure import Figure

End = Literal["top", "bottom", "magnitude", "both"]
ENDS: tuple[End, ...] = get_args(End)


@dataclass(frozen=True)
class Eigenpairs(Saved):
    r"""Some eigenvalues and eigenvectors.

    Attributes:
        values: eigenvalues, the outermost first, float64. As :math:`x^\top A x` of their unit
            vectors they lie within the spectrum: one below zero is a direction of negative
            curvature whatever its residual.
        vectors: unit eigenvectors in columns, shape (n, values).
        residuals: :math:`|A x - \lambda x|` of each; an eigenvalue of A lies within that
            distance of each value.
        products: how many products with the matrix it took.
        converged: whether every residual is within the tolerance.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    products: int
    converged: bool

    def plot(self, path: str | os.PathLike[str] | None = None) -> "Figure":
        """Draw the eigenvalues with their residuals as bars; see `Grid.plot` for the path."""
        from thalweg.landscape.figures.lines import draw_eigenvalues

        return draw_eigenvalues(self, path)


def eigenpairs(
    operator: Operator,
    count: int = 5,
    which: End = "top",
    *,
    tolerance: float = 1e-3,
    max_products: int = 200,
    seed: int = 0,
    progress: Progress | None = None,
) -> Eigenpairs:
    r"""Return the outermost eigenpairs by Lanczos' method, which stops by its residuals.

    Ends when the residual of each wanted pair is at most ``tolerance`` times the largest
    eigenvalue in magnitude that was found. With full re-orthogonalisation the residual is
    :math:`\beta_m |s_m|`, s the pair's vector in the basis, and costs no product. The start is
    random, and for the largest eigenvalues of a `Curvature` leans towards them. Of an eigenvalue
    of higher multiplicity one start finds one vector, until the space closes.

    Args:
        operator: a symmetric matrix.
        count: how many pairs, fewer if the matrix is smaller.
        which: "top" the largest, "bottom" the smallest, "magnitude" the largest in magnitude,
            "both" the largest, the smallest, the second largest, and so on.
        tolerance: of the residuals.
        max_products: where to give up; the result then says that it did not converge.
        seed: of the random start.
        progress: told how many of at most how many products are taken.

    Raises:
        UsageError: an impossible argument, or a product that is not finite.
    """
    if which not in ENDS:
        raise UsageError(f'unknown end "{which}".{did_you_mean(which, ENDS)}')
    if count < 1 or max_products < count or not tolerance > 0:
        raise UsageError(
            "eigenpairs needs a count of at least 1, at least as many products and a positive "
            f"tolerance, found {count}, {max_products} and {tolerance}"
        )
    count = min(count, operator.shape[0])
    random = generator(seed, "eigenpairs")
    lean = which in ("top", "magnitude")
    if lean and isinstance(operator, Curvature):
        start = operator.first(random)
    else:
        start = gaussian(operator, random)
    lanczos = Lanczos(operator, start, random)
    while True:
        lanczos.step()
        if progress is not None:
            progress(lanczos.steps, max_products)
        if lanczos.steps < count:
            continue
        values, inner = torch.linalg.eigh(lanczos.matrix())
        chosen = _order(values, which)[:count]
        residuals = abs(lanczos.residual) * inner[-1, chosen].abs()
        # A space that closed says nothing of what lies outside of it.
        closed = lanczos.residual == 0 and not lanczos.exhausted
        done = not closed and bool((residuals <= tolerance * values.abs().max()).all())
        if done or lanczos.exhausted or lanczos.steps >= max_products:
            break
    vectors = (inner[:, chosen].mT.to(lanczos.basis) @ lanczos.basis.mT).mT
    return Eigenpairs(values[chosen], vectors, residuals, lanczos.steps, done)


def _order(values: Tensor, which: End) -> Tensor:
    if which == "both":
        # Positions 0, m - 1, 1, m - 2, ... from the top.
        falling = values.argsort(descending=True)
        return torch.stack([falling, falling.flip(0)], 1).reshape(-1)[: len(values)]
    key = {"top": values, "bottom": -values, "magnitude": values.abs()}[which]
    return key.argsort(descending=True)
