"""AI-SARAH."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Rule
from thalweg.engine.closure import Evaluations, unflatten
from thalweg.engine.finite_sum import FiniteSumOptimizer
from thalweg.engine.one_vector import VectorOptimizer, gradient_at, vector
from thalweg.engine.rule import require
from thalweg.engine.second_order import hessian_product


@dataclass(frozen=True)
class AISARAHRule(Rule):
    """The numbers of `AISARAH`."""

    lr: float = 1.0
    gamma: float = 1 / 32
    beta: float = 0.999
    seed: int = 0

    def check(self) -> None:
        """Refuse thresholds and decays outside their ranges."""
        super().check()
        require(self, "gamma", self.gamma >= 0, "at least 0")
        require(self, "beta", 0 <= self.beta < 1, "in [0, 1)")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the estimate v, zero until the first step."""
        return {"estimate": torch.zeros_like(p)}

    def shared(self) -> dict[str, float]:
        """Return the inverse of the bound on steps, and v's squared norm, at first and now."""
        return {"delta": 0.0, "first_norm_sq": 0.0, "norm_sq": 0.0}


class AISARAH(
    VectorOptimizer,
    FiniteSumOptimizer,
    rule=AISARAHRule,
    slug="ai-sarah",
    name="AI-SARAH",
    reference="Shi et al. 2023, arXiv 2102.09700",
    space={"lr": Log(0.3, 1.0)},
):
    r"""AI-SARAH: SARAH that finds every step length from the batch's curvature.

    With v the gradient of F at first, and again as soon as |v|^2 < gamma |v_0|^2, a step takes
    one Newton step from a = 0 on phi(a) = |g(p - a v) - g(p) + v|^2, the squared norm of the
    estimate to come, with the batch's gradient g::

        a' = -phi'(0) / |phi''(0)| = <v, H v> / |<H v, H v> + <v, (D H v) v>|
        a = min(a', 1 / delta)
        v <- v + g(p - lr a v) - g(p)
        p <- p - lr a v
        delta <- beta delta + (1 - beta) / a'   (at the very first step 1 / a', before it 0)

    On a quadratic phi is one too, and a' is its minimum. Where phi is flat, as at the solution,
    a = 0. Weight decay is a penalty of every loss.

    What to provide, and how to step: as for `SVRG`; the batches' closures may not call
    ``backward()``.

    Args:
        params: see `RuleOptimizer`.
        lr: multiplies the step found; leave it at 1.
        gamma: fall of the squared norm that ends an inner loop.
        beta: decay of the mean of inverse steps, in [0, 1).
        seed: of the draws of ``step()`` without a closure.
        weight_decay: weight of the penalty ``weight_decay / 2 |p|^2``.

    State: ``estimate`` (v), like the parameter; in each group the numbers ``delta``,
    ``first_norm_sq`` and ``norm_sq``.

    When to use: convex finite sums, without any tuning. A step takes a gradient, its derivative
    along v twice over, and a second gradient: about five times a plain one.

    Reference: Shi, Sadiev, Loizou, Richtarik & Takac, "AI-SARAH: Adaptive and Implicit Stochastic
    Recursive Gradient Methods", TMLR 2023, arXiv 2102.09700; the bookkeeping of the bound is that
    of the authors' code.
    """

    needs_graph = True
    penalised = True

    def _moved(self, evaluations: Evaluations, x: Tensor) -> Tensor:
        params, numbers = evaluations.params, self.param_groups[0]
        delta, first = numbers["delta"], numbers["first_norm_sq"]
        _, graph = evaluations.graph()
        fell = numbers["norm_sq"] < self.common("gamma") * first
        if fell or any(self.state_of(p)["step"] == 0 for p in params):
            v = vector(self.full_gradient(params))
            first = _squared_norm(v)
        else:
            v = self._remembered("estimate", evaluations)
        newton = _newton_step(graph, params, v)
        bound = 1 / delta if delta else math.inf
        end = x - self.common("lr") * min(newton, bound) * v
        v = v + gradient_at(evaluations, end)[1] - vector(graph)
        if newton:
            beta = self.common("beta") if delta else 0.0
            delta = beta * delta + (1 - beta) / newton
        self._remember("estimate", v, evaluations)
        self._set(delta=delta, first_norm_sq=first, norm_sq=_squared_norm(v))
        return end


def _squared_norm(v: Tensor) -> float:
    return float(v.square().sum())


def _newton_step(graph: Sequence[Tensor], params: Sequence[Tensor], v: Tensor) -> float:
    """Return a', from gradients with their graph; 0 where phi is flat."""
    parts = unflatten(v, params)
    product = hessian_product(graph, params, parts, create_graph=True)
    third = vector(hessian_product(product, params, parts))
    hv = vector(product)
    slope, curvature = float((v * hv).sum()), float((hv.square() + v * third).sum())
    return slope / abs(curvature) if curvature else 0.0
