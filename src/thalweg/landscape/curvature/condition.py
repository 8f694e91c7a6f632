"""The condition number of a curvature matrix."""

import math
from dataclasses import dataclass

from thalweg.core.errors import UsageError
from thalweg.landscape.curvature.eigenpairs import eigenpairs
from thalweg.landscape.curvature.lanczos import Operator


@dataclass(frozen=True)
class Condition:
    r"""The condition number of a positive definite :math:`A + \delta I`.

    Attributes:
        value: the largest of the eigenvalues found over the smallest, never more than the true
            number.
        bound: the same with both moved outwards by their residuals, infinite where that leaves
            nothing of the smallest. The true number is at most that where no eigenvalue lies
            beyond those found.
        largest: of A, without the damping.
        smallest: likewise.
        residuals: of both; see `Eigenpairs`.
        damping: :math:`\delta`.
        products: how many products with the matrix it took.
        converged: whether both residuals are within the tolerance.
    """

    value: float
    bound: float
    largest: float
    smallest: float
    residuals: tuple[float, float]
    damping: float
    products: int
    converged: bool


def condition_number(
    operator: Operator,
    *,
    damping: float = 0.0,
    tolerance: float = 1e-3,
    max_products: int = 200,
    seed: int = 0,
) -> Condition:
    r"""Return :math:`(\lambda_{max} + \delta) / (\lambda_{min} + \delta)` from one Lanczos run.

    Both ends of the spectrum are found together, until their residuals are at most ``tolerance``
    times the largest magnitude. The smallest eigenvalue is known to no more than that, so a
    number beyond 1 / tolerance is a lower bound, as ``bound`` shows.

    Args:
        operator: a symmetric matrix A.
        damping: :math:`\delta`, added to all eigenvalues.
        tolerance: of the residuals.
        max_products: where to give up.
        seed: of the random start.

    Raises:
        UsageError: the damped matrix is not positive definite, or as `eigenpairs`.
    """
    if not math.isfinite(damping):
        raise UsageError(f"the damping must be finite, found {damping}")
    found = eigenpairs(
        operator, 2, "both", tolerance=tolerance, max_products=max_products, seed=seed
    )
    largest, smallest = float(found.values[0]), float(found.values[-1])
    above, below = float(found.residuals[0]), float(found.residuals[-1])
    if not smallest + damping > 0:
        raise UsageError(
            f"the matrix has the eigenvalue {smallest:.6g} and with a damping of {damping:.6g} is "
            "not positive definite, so that it has no condition number; take a larger damping"
        )
    least = smallest - below + damping
    return Condition(
        value=(largest + damping) / (smallest + damping),
        bound=(largest + above + damping) / least if least > 0 else math.inf,
        largest=largest,
        smallest=smallest,
        residuals=(above, below),
        damping=damping,
        products=found.products,
        converged=found.converged,
    )
