"""Newton's method."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Evaluations, Rule
from thalweg.engine.one_vector import VectorOptimizer, backtracked_along
from thalweg.engine.rule import require
from thalweg.engine.second_order import hessian, shifted, with_graph

# By how much the first shift of an indefinite Hessian exceeds its most negative diagonal entry.
_FIRST_SHIFT = 1e-3


@dataclass(frozen=True)
class NewtonRule(Rule):
    """The settings of `Newton`."""

    lr: float = 1.0
    damping: float = 0.0
    line_search: bool = True

    def check(self) -> None:
        """Refuse a negative damping."""
        super().check()
        require(self, "damping", self.damping >= 0, "at least 0")


class Newton(
    VectorOptimizer,
    rule=NewtonRule,
    slug="newton",
    reference="Nocedal and Wright 2006",
    space={"lr": Log(3e-2, 1.0), "damping": Log(1e-6, 1e-1)},
):
    """Newton's method, damped: to the minimum of the quadratic model, as far as the loss falls.

    With g and H the gradient and the whole Hessian of the loss and its penalty::

        d = -(H + (damping + shift) I)^-1 g
        p <- p + lr 2^-j d

    where shift is 0 if ``H + damping I`` is positive definite, and else the first of
    ``1e-3 + max(0, -smallest diagonal entry)`` and its doubles that makes it so; and j is 0
    without line search, else the least for which the loss falls by 1e-4 of what the slope
    promises (at most 29).

    Args:
        params: see `RuleOptimizer`.
        lr: length of the step that is tried first; less than 1 damps every step.
        damping: added to the Hessian's diagonal, at least 0.
        line_search: whether the step is halved until the loss falls.
        weight_decay: of the penalty ``weight_decay / 2 |p|^2``.

    State: none. A step takes d^2 numbers and d Hessian products for d parameters.

    When to use: smooth problems of up to a few thousand parameters, on all of the data: near a
    minimum every step doubles the digits that are right. Not on small batches.

    Reference: Nocedal and Wright, "Numerical Optimization" (2006), algorithms 3.1, 3.2 and 3.3.
    """

    needs_graph: ClassVar[bool] = True

    def _moved(self, evaluations: Evaluations, x: Tensor) -> Tensor:
        loss, gradients, g = with_graph(evaluations)
        matrix = hessian(gradients, evaluations.params)
        d = -_solved(shifted(matrix, self.common("damping")), g)
        rate = self.common("lr")
        if self.common("line_search"):
            rate, _ = backtracked_along(
                evaluations, x, loss, g, d, rate=rate, shrink=0.5, decrease=1e-4, trials=30
            )
        return x + rate * d


def _solved(matrix: Tensor, b: Tensor) -> Tensor:
    """Solve with the matrix, or with what its diagonal must be raised to be positive definite."""
    if not matrix.isfinite().all():
        return torch.full_like(b, torch.nan)
    shift = _FIRST_SHIFT + max(0.0, -matrix.diagonal().min().item())
    factor, failed = torch.linalg.cholesky_ex(matrix)
    while failed:
        factor, failed = torch.linalg.cholesky_ex(shifted(matrix, shift))
        shift *= 2
    return torch.cholesky_solve(b[:, None], factor)[:, 0]
