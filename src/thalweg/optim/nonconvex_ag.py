"""Accelerated gradient for nonconvex sparse penalties."""

import math
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State, sign
from thalweg.engine.distributed import gathered
from thalweg.engine.hyper_parameters import rule_from_group
from thalweg.engine.numeric import wide
from thalweg.engine.rule import require


@dataclass(frozen=True)
class NonconvexAGRule(Rule):
    """The formula of `NonconvexAG`."""

    lr: float = 0.1
    penalty: Literal["scad", "mcp"] = "scad"
    penalty_weight: float = 0.01
    a: float = 3.7
    gamma: float = 2.0
    restart: bool = True

    def check(self) -> None:
        """Refuse penalties without a plateau, and steps too long for their curvature."""
        super().check()
        require(self, "penalty_weight", self.penalty_weight >= 0, "at least 0")
        require(self, "a", self.a > 1, "above 1")
        require(self, "gamma", self.gamma > 0, "positive")
        longest = self.a - 1 if self.penalty == "scad" else self.gamma
        require(self, "lr", self.lr <= longest, f"at most {longest:g} for this penalty")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the sequence x and the point before, which start at the parameter."""
        return {name: p.detach().clone() for name in ("x", "before")}

    def shared(self) -> dict[str, float]:
        """Return the mixing weights of this step and the next, the speed and the last restart."""
        return {"alpha": 1.0, "alpha_next": _next(1.0), "speed_sq": 0.0, "since_restart": 0}

    def measure(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> dict[str, Tensor]:
        """Return the squared length of the last movement."""
        del g, k
        moved = p - s.before
        return {"speed_sq": (moved * moved).sum()}

    def advance(self, shared: MutableMapping[str, float], measured: Mapping[str, float]) -> None:
        """Move the mixing weights on, from the start again if the iterate has slowed down."""
        shared["since_restart"] += 1
        slower = shared["since_restart"] >= 3 and measured["speed_sq"] < shared["speed_sq"]
        if self.restart and slower:
            shared["since_restart"] = 0
        shared["alpha"] = shared["alpha_next"]
        shared["alpha_next"] = _next(shared["alpha"] if shared["since_restart"] else 1.0)
        shared["speed_sq"] = measured["speed_sq"]

    def scalars(self, t: int) -> dict[str, float]:
        """Return the penalty's numbers."""
        del t
        return {"threshold": self.penalty_weight, "a": self.a, "gamma": self.gamma}

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return 1 and 0: `update` returns the whole movement."""
        return 1.0, 0.0

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Move x on and return the movement of the point between x and y."""
        size = p.abs()
        level = (size - k.threshold) / (k.a - 1) if self.penalty == "scad" else size / k.gamma
        slope = g + p * k.weight_decay - sign(p) * level.clamp(0.0, k.threshold)
        long = k.lr / k.alpha
        s.before.copy_(p)
        x = s.x.copy_(_shrunk(s.x - slope * long, long * k.threshold))
        y = _shrunk(p - slope * k.lr, k.lr * k.threshold)
        return p - y.lerp(x, k.alpha_next)

    def penalties(self, p: Tensor) -> Tensor:
        """Return the penalty of each entry."""
        weight = self.penalty_weight
        if self.penalty == "scad":
            size = p.abs().clamp_max(self.a * weight)
            return weight * size - (size - weight).clamp_min(0.0).square() / (2 * (self.a - 1))
        size = p.abs().clamp_max(self.gamma * weight)
        return weight * size - size.square() / (2 * self.gamma)


def _next(alpha: float) -> float:
    return 2 / (1 + math.sqrt(1 + 4 / alpha**2))


def _shrunk(x: Tensor, threshold: float) -> Tensor:
    return sign(x) * (x.abs() - threshold).clamp_min(0.0)


class NonconvexAG(
    RuleOptimizer,
    rule=NonconvexAGRule,
    slug="nonconvex-ag",
    name="Nonconvex AG",
    reference="Yang et al. 2020, arXiv 2009.10629",
    space={"lr": Log(1e-2, 1.0), "penalty_weight": Log(1e-4, 1e-1)},
):
    r"""Nonconvex AG: accelerated gradient for losses with a SCAD or MCP penalty.

    Minimises ``loss + sum penalty(p)``, where the penalty is ``lambda |p|`` near zero and flat far
    away: ``lambda |p|`` plus a smooth concave part c. With S_t(x) = sign(x) max(|x| - t, 0), G the
    gradient of loss + c at the point p between two sequences, and x = y = p at the start::

        x <- S_(lr lambda / alpha)(x - lr / alpha G)
        y <- S_(lr lambda)(p - lr G)
        alpha <- 2 / (1 + sqrt(1 + 4 / alpha^2))       (from 1, before the first step too)
        p  = (1 - alpha) y + alpha x

    and alpha begins again from 1 when p has moved less than in the step before, three steps after
    the last time at the earliest. The penalties, and their concave parts' gradients for |p| above
    lambda (SCAD) or from 0 on (MCP), with the sign of -p::

        scad: lambda s - max(s - lambda, 0)^2 / (2 (a - 1)),       s = min(|p|, a lambda)
              min((|p| - lambda) / (a - 1), lambda)
        mcp:  lambda s - s^2 / (2 gamma),                          s = min(|p|, gamma lambda)
              min(|p| / gamma, lambda)

    Entries become exactly zero. What is not to be penalised (an intercept) goes into a group with
    ``penalty_weight=0``. The loss that ``step`` returns is without the penalty, whose sum
    `penalty_value` gives.

    Args:
        params: see `RuleOptimizer`.
        lr: 0.99 / L with L the Lipschitz constant of the loss's gradient, at most a - 1 (SCAD) or
            gamma (MCP).
        penalty: "scad" or "mcp".
        penalty_weight: lambda, at least 0.
        a: where SCAD becomes flat, in lambdas, above 1.
        gamma: where MCP becomes flat, in lambdas, positive.
        restart: begin again when the movement slows down.
        weight_decay: coupled (L2), part of the smooth loss.

    State: ``x`` and ``before`` (the last p), like the parameter; in each group the numbers
    ``alpha``, ``alpha_next``, ``speed_sq`` and ``since_restart``.

    When to use: sparse linear and generalised linear models with full gradients, where the lasso's
    shrinkage of large coefficients is not wanted.

    Reference: Yang, Asgharian & Bhatnagar, "Accelerated Gradient Methods for Sparse Statistical
    Learning with Nonconvex Penalties", Statistics and Computing 2024, arXiv 2009.10629. As in the
    authors' code, the solution is p, the point between the sequences, and it begins again when the
    speed falls.
    """

    @torch.no_grad()
    def penalty_value(self) -> float:
        """Return the sum of all parameters' penalties, as they are now.

        Each group's settings apply. Weight decay's penalty is not part of it.
        """
        total = 0.0
        for group in self.param_groups:
            rule = cast(NonconvexAGRule, rule_from_group(group))
            for p in group["params"]:
                total += rule.penalties(wide(gathered(p))).sum().item()
        return total
