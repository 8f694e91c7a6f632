"""Models of the loss that are minimised exactly: linear, truncated, prox-linear."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Rule
from thalweg.engine.closure import Closure, Evaluations
from thalweg.engine.one_vector import VectorOptimizer, gradient_at, vector
from thalweg.engine.rule import require
from thalweg.engine.second_order import Linearised


@dataclass(frozen=True)
class ProxLinearRule(Rule):
    """The numbers of `ProxLinear`."""

    lr: float = 0.1
    local_model: Literal["prox-linear", "truncated", "linear"] = "prox-linear"
    outer: Literal["abs", "hinge"] = "abs"
    inner_steps: int = 50

    def check(self) -> None:
        """Refuse an inner solver without a sweep."""
        super().check()
        require(self, "inner_steps", self.inner_steps >= 1, "at least 1")


class ProxLinear(
    VectorOptimizer,
    rule=ProxLinearRule,
    slug="prox-linear",
    name="Prox-linear",
    reference="Davis & Drusvyatskiy 2019, arXiv 1803.06523",
    space={"lr": Log(1e-3, 1.0), "weight_decay": Log(1e-5, 1e-2)},
):
    r"""Prox-linear: linearises inside the absolute value, and minimises the model exactly.

    For a loss ``mean_i h(c_i(p))`` of a batch, with h = |.| ("abs") or max(., 0) ("hinge"), and J
    the derivative of c, over all parameters together::

        p <- argmin_y r(y) + mean_i h(c_i + J_i (y - p)) + |y - p|^2 / (2 lr)

    r is weight decay, ``weight_decay / 2 |y|^2``. For one c this is, without r,
    ``p - clip(c / |J|^2, -lr, lr) J`` (from 0 to lr for the hinge); for several, their multipliers
    are found by cyclic ascent. The closure returns ``(loss, c)``.

    With ``local_model="truncated"`` and ``"linear"`` the closure may return the loss f alone, and
    its gradient g stands for J: ``p - min(lr, f / |g|^2) g`` for losses that are never negative,
    and the subgradient step ``p - lr g``, both with r as it is, not linearised.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate; the first two models are stable however large it is.
        local_model: "prox-linear", "truncated" or "linear".
        outer: "abs" or "hinge", for "prox-linear".
        inner_steps: sweeps over the multipliers, at most.
        weight_decay: weight of r.

    State: nothing. A step of prox-linear takes a backward pass for each c_i and holds J.

    When to use: "prox-linear" for robust regression, phase retrieval and the like, where it
    forgives any learning rate; "truncated" for any loss whose least value is near 0, such as the
    cross-entropy of the built-in workloads: "prox-linear" takes what a network returns for c, and
    would only shrink its logits.

    Reference: Davis & Drusvyatskiy, "Stochastic Model-Based Minimization of Weakly Convex
    Functions", SIAM Journal on Optimization 29(1), 2019, arXiv 1803.06523; Asi & Duchi,
    "Stochastic (Approximate) Proximal Point Methods: Convergence, Optimality, and Adaptivity",
    2019, arXiv 1810.05633, for the truncated model. No code of the authors was found; this
    follows the formulas as they are generally stated.
    """

    needs_outputs = True

    def evaluations(self, closure: Closure) -> Evaluations:
        """Return the evaluations of a closure, without the penalty, which the models keep."""
        params = super().evaluations(closure).params
        return Evaluations(params, closure, type(self).__name__)

    def _moved(self, evaluations: Evaluations, x: Tensor) -> Tensor:
        decay, model = self.common("weight_decay"), self.common("local_model")
        # Completing the square, r shortens lr and moves the centre.
        lr = self.common("lr") / (1 + self.common("lr") * decay)
        moved = -lr * decay * x
        if model == "prox-linear":
            point = Linearised(evaluations)
            c = vector([point.outputs]) + point.jacobian @ moved
            if point.loss.isnan():
                c = torch.full_like(c, torch.nan)
            z = self._multipliers(c, point.jacobian, lr)
            return x + moved - lr / len(c) * (z @ point.jacobian)
        loss, g = gradient_at(evaluations, x)
        if model == "truncated":
            value, square = loss + torch.dot(g, moved).item(), torch.dot(g, g).item()
            if square:
                lr = min(max(value, 0.0) / square, lr)
        return x + moved - lr * g

    def _multipliers(self, c: Tensor, jacobian: Tensor, lr: float) -> Tensor:
        """Return h's slopes at the model's minimum, by cyclic ascent of the dual."""
        curvature = jacobian @ jacobian.mT * (lr / len(c))
        low = -1.0 if self.common("outer") == "abs" else 0.0
        z = torch.zeros_like(c)
        for _ in range(self.common("inner_steps")):
            before = z.clone()
            for i in range(len(c)):
                if curvature[i, i] != 0:
                    left = c[i] - torch.dot(curvature[i], z)
                    z[i] = (z[i] + left / curvature[i, i]).clamp(low, 1.0)
            if torch.equal(z, before):
                break
        return z
