"""Stochastic gradient descent with momentum."""

from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.core.space import Choice, Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State
from thalweg.engine.rule import require


@dataclass(frozen=True)
class SGDRule(Rule):
    """The formula of `SGD`."""

    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False

    def check(self) -> None:
        """Refuse a negative momentum, and Nesterov's without momentum or with dampening."""
        super().check()
        require(self, "momentum", self.momentum >= 0, "at least 0")
        possible = not self.nesterov or (self.momentum > 0 and self.dampening == 0)
        require(self, "nesterov", possible, "False unless momentum > 0 and dampening = 0")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the momentum buffer, zero, where there is momentum."""
        return {"momentum_buffer": torch.zeros_like(p)} if self.momentum != 0 else {}

    def scalars(self, t: int) -> dict[str, float]:
        """Return momentum and the gradient's weight, which dampening spares on the first step."""
        return {
            "momentum": self.momentum,
            "gradient_weight": 1.0 if t == 1 else 1 - self.dampening,
        }

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return lr and 0: weight decay joins the gradient."""
        return k.lr, 0.0

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the gradient, the buffer, or Nesterov's look ahead."""
        g = g.add(p, alpha=k.weight_decay)
        if not hasattr(s, "momentum_buffer"):
            return g
        b = s.momentum_buffer.mul_(k.momentum).add_(g, alpha=k.gradient_weight)
        return g.add(b, alpha=k.momentum) if self.nesterov else b


class SGD(
    RuleOptimizer,
    rule=SGDRule,
    slug="sgd",
    reference="Robbins & Monro 1951; Polyak 1964; Sutskever et al. 2013 (Nesterov form)",
    space={
        "lr": Log(1e-3, 3.0),
        "momentum": Choice((0.0, 0.9, 0.95)),
        "weight_decay": Log(1e-6, 1e-2),
    },
):
    r"""Stochastic gradient descent with heavy-ball or Nesterov momentum.

    With ``g <- g + weight_decay p`` and ``b_1 = g_1``::

        b <- momentum b + (1 - dampening) g
        p <- p - lr b                       (heavy ball)
        p <- p - lr (g + momentum b)        (nesterov)

    The same as `torch.optim.SGD` to the last bit in every mode, with ``execution="loop"``.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate.
        momentum: weight of the buffer, 0 for none (and then no state).
        dampening: takes weight from the gradient on every step but the first.
        nesterov: look ahead along the buffer; needs momentum and no dampening.
        weight_decay: coupled (L2).

    State: ``momentum_buffer``, like the parameter.

    Reference: Polyak, "Some methods of speeding up the convergence of iteration methods" (1964);
    Sutskever et al., "On the importance of initialization and momentum in deep learning" (2013).
    """
