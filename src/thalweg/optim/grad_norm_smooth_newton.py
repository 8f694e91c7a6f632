"""Newton's method by gradient-normalised smoothness."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Evaluations, Rule
from thalweg.engine.one_vector import VectorOptimizer, gradient_at, rounding
from thalweg.engine.rule import require
from thalweg.engine.second_order import Linearised, hessian, shifted, with_graph

# Added to gamma before the gradient's norm is divided by it.
_EPS = 1e-8
_HALVINGS = 40


@dataclass(frozen=True)
class GradNormSmoothNewtonRule(Rule):
    """The settings of `GradNormSmoothNewton`."""

    lr: float = 1.0
    gamma0: float = 1.0
    gamma_min: float = 1e-9
    approximation: Literal["hessian", "ggn", "fisher"] = "hessian"

    def check(self) -> None:
        """Refuse radii that are not positive."""
        super().check()
        require(self, "gamma0", self.gamma0 > 0, "positive")
        require(self, "gamma_min", self.gamma_min > 0, "positive")

    def shared(self) -> dict[str, float]:
        """Return the radius as it is now."""
        return {"gamma": self.gamma0}


class GradNormSmoothNewton(
    VectorOptimizer,
    rule=GradNormSmoothNewtonRule,
    slug="grad-norm-smooth-newton",
    name="GNS-Newton",
    reference="Semenov, Jaggi and Doikov 2026, arXiv 2506.13710",
    space={"gamma0": Log(1e-2, 1e2)},
):
    """Newton's method by gradient-normalised smoothness: steps of length gamma at most.

    With g the gradient of the loss F and its penalty, and H the Hessian or an approximation::

        lambda = |g| / (gamma + 1e-8)
        d = -(H + lambda I)^-1 g
        if F(p) - F(p + lr d) >= |g(p + lr d)|^2 / (8 lambda):
            p <- p + lr d,    gamma <- max(2 gamma, gamma_min)
        else:
            gamma <- gamma / 2, and again; after 40 times the step is taken anyway

    Where ``H + lambda I`` is not positive definite, gamma is halved as well. The rule is the same
    for F and a multiple of F.

    Args:
        params: see `RuleOptimizer`.
        lr: share of the step that is taken, 1 in the paper.
        gamma0: the radius at the start, positive.
        gamma_min: what a step that is taken raises it to at least, positive.
        approximation: "hessian" for the Hessian itself; "ggn" for ``J^T Q J`` with J the
            derivative of the outputs by the parameters and Q the Hessian of the loss by the
            outputs; "fisher" for the mean over the batch (the first axis of the outputs) of
            ``g_i g_i^T``, where g_i is the gradient of sample i's loss and the loss the mean of
            these. For the last two the closure returns (loss, outputs).
        weight_decay: of the penalty ``weight_decay / 2 |p|^2``, whose Hessian is part of every H.

    State: none but ``gamma``, which belongs to the run. A step takes d^2 numbers for d
    parameters.

    When to use: convex problems of up to a few thousand parameters on all of the data, such as
    logistic and softmax regression, from far away: it needs no learning rate, and keeps its rate
    with approximate Hessians.

    Reference: Semenov, Jaggi and Doikov, "Gradient-Normalized Smoothness for Optimization with
    Approximate Hessians", ICLR 2026, arXiv 2506.13710; the authors' code, where the paper has no
    1e-8 and the norm may be another. That code takes the last step if the matrix is not positive
    definite. Falls by less than rounding are no failures here.
    """

    needs_graph: ClassVar[bool] = True

    def _moved(self, evaluations: Evaluations, x: Tensor) -> Tensor:
        loss, g, matrix = self._model(evaluations, x)
        size, rate = torch.linalg.vector_norm(g).item(), self.common("lr")
        if size == 0 or not math.isfinite(size):
            return x - g
        gamma, end = self.param_groups[0]["gamma"], x
        for _ in range(_HALVINGS + 1):
            damping = size / (gamma + _EPS)
            factor, failed = torch.linalg.cholesky_ex(shifted(matrix, damping))
            if not failed:
                end = x - rate * torch.cholesky_solve(g[:, None], factor)[:, 0]
                after, there = gradient_at(evaluations, end)
                fall, left = loss - after, torch.dot(there, there).item()
                if fall + rounding(loss, x) >= left / (8 * damping):
                    gamma = max(2 * gamma, self.common("gamma_min"))
                    break
            gamma /= 2
        self._set(gamma=gamma)
        return end

    def _model(self, evaluations: Evaluations, x: Tensor) -> tuple[float, Tensor, Tensor]:
        """Return the loss, its gradient and H."""
        if self.common("approximation") == "hessian":
            loss, gradients, g = with_graph(evaluations)
            return loss, g, hessian(gradients, evaluations.params)
        point, decay = Linearised(evaluations), self.common("weight_decay")
        matrix = point.gauss_newton() if self.common("approximation") == "ggn" else _fisher(point)
        return *point.penalised(x, decay), shifted(matrix, decay)


def _fisher(point: Linearised) -> Tensor:
    """Return the mean of the samples' gradients times themselves."""
    samples = len(point.outputs)
    weighted = point.residual[:, None] * point.jacobian
    each = weighted.reshape(samples, -1, weighted.size(1)).sum(1)
    return samples * each.mT @ each
