"""STORM."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import ClosureOptimizer, Numbers, Rule, State
from thalweg.engine.closure import Evaluations, zeros_where_absent
from thalweg.engine.rule import require


@dataclass(frozen=True)
class STORMRule(Rule):
    """The formula of `STORM`."""

    lr: float = 1.0
    w: float = 10.0
    c: float = 100.0

    def check(self) -> None:
        """Refuse a first sum that is not positive and a negative weight."""
        super().check()
        require(self, "w", self.w > 0, "positive")
        require(self, "c", self.c >= 0, "at least 0")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the estimate d, zero, and the point before."""
        return {"estimate": torch.zeros_like(p), "previous": p.detach().clone()}

    def shared(self) -> dict[str, float]:
        """Return the sum of squared norms, the share a of the next gradient, and this step's."""
        return {"norm_sq_sum": 0.0, "a_next": 1.0, "a": 1.0, "eta": 0.0}

    def measure(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> dict[str, Tensor]:
        """Return the squared norm of the gradient."""
        g = g + p * k.weight_decay
        return {"norm_sq": (g * g).sum()}

    def advance(self, shared: MutableMapping[str, float], measured: Mapping[str, float]) -> None:
        """Shorten the step by the gradient's norm, and let it set the next share."""
        shared["norm_sq_sum"] += measured["norm_sq"]
        shared["a"] = shared["a_next"]
        shared["eta"] = self.lr / (self.w + shared["norm_sq_sum"]) ** (1 / 3)
        shared["a_next"] = min(self.c * shared["eta"] ** 2, 1.0)

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return eta and 0: weight decay joins the gradient."""
        return k.eta, 0.0

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Carry the estimate on and return it."""
        d = s.estimate.sub_(s.previous_gradient).mul_(1 - k.a).add_(g)
        return d + p * k.weight_decay


class STORM(
    ClosureOptimizer,
    rule=STORMRule,
    slug="storm",
    reference="Cutkosky & Orabona 2019, arXiv 1905.10018",
    space={"lr": Log(1e-2, 3.0), "weight_decay": Log(1e-5, 1e-2)},
):
    r"""STORM: momentum whose old part is moved along, by the same batch's gradient before.

    With the batch's gradients at p and at the point before it, and G^2 the squared norm of the
    first over all parameters::

        d <- g(p) + (1 - a) (d - g(p_before))
        eta = lr / (w + sum of all G^2 so far)^(1/3)
        p <- p - eta d
        a <- min(1, c eta^2)

    a = 1 at the first step. The estimate loses its noise as the steps shrink, without any pass
    over all data. Weight decay joins every gradient.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate, the paper's k.
        w: what the sum of squared norms starts with, > 0.
        c: weight of new gradients.
        weight_decay: coupled (L2).

    State: ``estimate`` (d) and ``previous`` (the point before), like the parameter; in each group
    the numbers ``norm_sq_sum``, ``a``, ``a_next`` and ``eta``.

    When to use: noisy gradients and no full passes, at the price of two gradients a step. Its
    learning rate decays by itself: give it none, or a short, schedule.

    Reference: Cutkosky & Orabona, "Momentum-Based Variance Reduction in Non-Convex SGD", NeurIPS
    2019, arXiv 1905.10018. Its formula with scalar eta and a; the defaults are those of the
    authors' code, which keeps a sum for each entry, takes a from the current eta and clips d.
    """

    penalised = False

    def _step(self, evaluations: Evaluations) -> None:
        params = evaluations.params
        states = [self.state_of(p) for p in params]
        gradients = zeros_where_absent(evaluations.gradient()[1], params)
        with evaluations.at([state["previous"] for state in states]):
            before = zeros_where_absent(evaluations.gradient()[1], params)
        before = self.seen_list(before, params)
        for p, state in zip(params, states, strict=True):
            state["previous"].copy_(p)
        self._advance(
            dict(zip(params, gradients, strict=True)),
            {"previous_gradient": dict(zip(params, before, strict=True))},
        )
