"""SAGA."""

from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.core.space import Log
from thalweg.engine import Numbers, Rule, State
from thalweg.engine.closure import Evaluations, zeros_where_absent
from thalweg.engine.distributed import local
from thalweg.engine.finite_sum import FiniteSumOptimizer


@dataclass(frozen=True)
class SAGARule(Rule):
    """The formula of `SAGA`."""

    lr: float = 1e-2
    seed: int = 0

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the mean of the table, zero until the first step."""
        return {"average": torch.zeros_like(p)}

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return lr and 0: weight decay joins the gradient."""
        return k.lr, 0.0

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the term's gradient, less the one in the table, plus the table's mean."""
        return g - s.old_gradient + s.average + p * k.weight_decay


class SAGA(
    FiniteSumOptimizer,
    rule=SAGARule,
    slug="saga",
    reference="Defazio et al. 2014, arXiv 1407.0202",
    space={"lr": Log(1e-3, 3e-1), "weight_decay": Log(1e-5, 1e-2)},
):
    r"""SAGA: every term's last gradient, in a table, takes the noise out of the next one.

    For F = (1/n) sum_i f_i, with the table T of n gradients, filled at the first step, and its
    mean m; a step draws a term j::

        p <- p - lr (g_j - T_j + m + weight_decay p)
        m <- m + (g_j - T_j) / n
        T_j <- g_j

    A step costs one gradient of one term. A constant learning rate of 1 / (3 L) converges
    linearly on strongly convex sums.

    Give the terms, of which ``step()`` draws one::

        optimizer.provide(components=[lambda batch=batch: loss(batch) for batch in batches])
        optimizer.step()

    ``step(closure)`` evaluates the closure in place of the term drawn, which ``drawn()`` tells.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate.
        seed: of the draws.
        weight_decay: coupled (L2), outside the table.

    State: ``average`` (m), like the parameter, and ``table`` (T), n tensors like the parameter in
    one: let the terms be large batches.

    When to use: convex finite sums of few terms, to high accuracy, without SVRG's full passes.

    Reference: Defazio, Bach & Lacoste-Julien, "SAGA: A Fast Incremental Gradient Method With
    Support for Non-Strongly Convex Composite Objectives", NeurIPS 2014, arXiv 1407.0202, without
    its proximal step. No code of the authors was used; this follows the paper's formula.
    """

    def _step(self, evaluations: Evaluations) -> None:
        params, closures, drawn = evaluations.params, self.provided("components"), self.drawn()
        states = [self.state_of(p) for p in params]
        if any(len(state.get("table", closures)) != len(closures) for state in states):
            raise UsageError(
                f"SAGA's table was made for another number of terms than the {len(closures)} that "
                "are provided now; provide the same terms in the same order"
            )
        gradients = zeros_where_absent(evaluations.gradient()[1], params)
        if any(state["step"] == 0 for state in states):
            terms = [self.gradient_of(closure, params) for closure in closures]
            rows = zip(*(self.seen_list(term, params) for term in terms), strict=True)
            for state, row in zip(states, rows, strict=True):
                state["table"] = torch.stack(row)
                state["average"].copy_(state["table"].mean(0))
        old = [state["table"][drawn] for state in states]
        new = self.seen_list(gradients, params)
        self._advance(
            dict(zip(params, gradients, strict=True)),
            {"old_gradient": dict(zip(params, old, strict=True))},
        )
        for state, g, before in zip(states, new, old, strict=True):
            state["average"].add_(g - before, alpha=1 / len(closures))
            local(state["table"])[drawn].copy_(local(g))
