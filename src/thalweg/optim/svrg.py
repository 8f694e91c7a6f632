"""SVRG."""

from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, Rule, State
from thalweg.engine.closure import Evaluations, zeros_where_absent
from thalweg.engine.finite_sum import FiniteSumOptimizer
from thalweg.engine.rule import require


@dataclass(frozen=True)
class SVRGRule(Rule):
    """The formula of `SVRG`."""

    lr: float = 1e-2
    inner_steps: int = 100
    seed: int = 0

    def check(self) -> None:
        """Refuse inner loops without a step."""
        super().check()
        require(self, "inner_steps", self.inner_steps >= 1, "at least 1")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the snapshot and the full gradient there, zero until the first step."""
        return {"snapshot": torch.zeros_like(p), "full_gradient": torch.zeros_like(p)}

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return lr and 0: weight decay joins the gradient."""
        return k.lr, 0.0

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the batch's gradient, less its value at the snapshot, plus the full one there."""
        return g - s.snapshot_gradient + s.full_gradient + p * k.weight_decay


class SVRG(
    FiniteSumOptimizer,
    rule=SVRGRule,
    slug="svrg",
    reference="Johnson & Zhang 2013",
    space={"lr": Log(1e-3, 3e-1), "weight_decay": Log(1e-5, 1e-2)},
):
    r"""SVRG: the gradient, less its value at a snapshot, plus the full gradient there.

    Every ``inner_steps`` steps w = p and mu = the gradient of F at w; at every step, with the
    gradients of the same batch at both points::

        p <- p - lr (g(p) - g(w) + mu + weight_decay p)

    The direction has the full gradient as its mean, and no noise left at the solution, so that a
    constant learning rate below 1 / (2 L) converges.

    Give the whole loss before the first step, and the batch's at each step::

        optimizer.provide(full_closure=lambda: loss(all_data))
        optimizer.step(lambda: loss(batch))

    or the terms of the sum, ``optimizer.provide(components=[...])``, of which ``step()`` draws.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate.
        inner_steps: steps from one full gradient to the next; about 2 n steps of one term each
            for convex losses, 5 n for others.
        seed: of the draws of ``step()`` without a closure.
        weight_decay: coupled (L2).

    State: ``snapshot`` (w) and ``full_gradient`` (mu), like the parameter.

    When to use: convex finite sums that are to be solved to high accuracy. On deep networks the
    snapshot ages faster than it pays.

    Reference: Johnson & Zhang, "Accelerating Stochastic Gradient Descent using Predictive
    Variance Reduction", NeurIPS 2013, its option I (the snapshot is the last point). No code of
    the authors was found; a third-party one averages the gradients of batches for mu, which is
    the full gradient for batches of equal size only. Gradients of F are taken as given here.
    """

    def _step(self, evaluations: Evaluations) -> None:
        params = evaluations.params
        states = [self.state_of(p) for p in params]
        gradients = zeros_where_absent(evaluations.gradient()[1], params)
        period = self.common("inner_steps")
        if any(state["step"] % period == 0 for state in states):
            full = self.seen_list(self.full_gradient(params), params)
            at_snapshot = gradients
            for p, state, mu in zip(params, states, full, strict=True):
                state["snapshot"].copy_(p)
                state["full_gradient"].copy_(mu)
        else:
            with evaluations.at([state["snapshot"] for state in states]):
                at_snapshot = zeros_where_absent(evaluations.gradient()[1], params)
        at_snapshot = self.seen_list(at_snapshot, params)
        self._advance(
            dict(zip(params, gradients, strict=True)),
            {"snapshot_gradient": dict(zip(params, at_snapshot, strict=True))},
        )
