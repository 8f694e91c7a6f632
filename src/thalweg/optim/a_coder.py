"""Accelerated cyclic coordinate dual averaging with extrapolation."""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import ClosureOptimizer, Evaluations, Rule
from thalweg.engine.closure import Closure, move, zeros_where_absent
from thalweg.engine.rule import require


@dataclass(frozen=True)
class ACODERRule(Rule):
    """The settings and the state of `ACODER`."""

    lr: float = 0.1
    l1: float = 0.0
    blocks: int = 0

    def check(self) -> None:
        """Refuse a negative penalty and a negative number of blocks."""
        super().check()
        require(self, "l1", self.l1 >= 0, "at least 0")
        require(self, "blocks", self.blocks >= 0, "at least 0 (0 for one a tensor)")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the start, the sum of gradients, the averaged point, and two gradients."""
        start = p.detach().to(torch.promote_types(p.dtype, torch.float32))
        names = ("gradient_sum", "gradient", "block_gradient")
        zeros = {name: torch.zeros_like(start) for name in names}
        return {"start": start.clone(), "dual_point": start.clone(), **zeros}

    def shared(self) -> dict[str, float]:
        """Return the sum of all weights and the last of them."""
        return {"weight_sum": 0.0, "weight": 0.0}


class ACODER(
    ClosureOptimizer,
    rule=ACODERRule,
    slug="a-coder",
    name="A-CODER",
    reference="Lin, Song & Diakonikolas 2023, arXiv 2303.16279",
    space={"lr": Log(1e-3, 1.0)},
):
    r"""A-CODER: accelerated coordinate descent by blocks for convex losses with a simple penalty.

    Minimises ``f(p) + l1 |p|_1 + weight_decay / 2 |p|^2``, a block of parameters after the other,
    each gradient extrapolated by how the last one missed. With L = 1 / lr, A the sum of the
    weights a so far, and y, v, x_0 the start at first::

        a = the largest with a^2 / (A + a) <= 2 (1 + weight_decay A) / (5 L);   A <- A + a
        x = (1 - a / A) y + (a / A) v
        for the blocks j from the last to the first:
            g_j = block j of the gradient at (x in blocks up to j, y in those after)
            z_j <- z_j + a (g_j + a_last / a (gradient_j(x_last) - g_j_last))
            v_j = prox(x_0j - z_j),     y_j <- (1 - a / A) y_j + (a / A) v_j

    with ``prox(u) = sign(u) max(|u| - A l1, 0) / (1 + A weight_decay)``. The parameters hold y.
    Each step evaluates the closure once a block.

    Args:
        params: see `RuleOptimizer`.
        lr: 1 / L, where L measures how blocks' gradients change with the others; at most that of
            the whole gradient is always safe.
        l1: weight of the sum of absolute values, at least 0.
        blocks: number of blocks of neighbouring tensors; 0 for one a tensor.
        weight_decay: weight of half the squared norm, taken by the prox: entries become exactly
            zero, and strong convexity makes the rate linear.

    State: ``start``, ``gradient_sum`` (z), ``dual_point`` (v), ``gradient`` (at the last x) and
    ``block_gradient`` (g), like the parameter, float32 at least; the numbers ``weight_sum`` (A) and
    ``weight`` (a).

    When to use: lasso, elastic net and penalised logistic regression with full gradients. It is
    not meant for networks.

    Reference: Lin, Song & Diakonikolas, "Accelerated Cyclic Coordinate Dual Averaging with
    Extrapolation for Composite Convex Optimization", ICML 2023, arXiv 2303.16279. No code of the
    authors was found and the paper was not at hand: the rule and its constant 2/5 follow a
    restatement. The paper's variance-reduced form for finite sums is left out: no public formula or
    code of it was found that an implementation could be checked against.
    """

    looks_aside = True

    def evaluations(self, closure: Closure) -> Evaluations:
        """Return evaluations of f alone: the prox takes both penalties."""
        params = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        return Evaluations(params, closure, type(self).__name__)

    def _step(self, evaluations: Evaluations) -> None:
        params, group = evaluations.params, self.param_groups[0]
        lr, decay = self.common("lr"), self.common("weight_decay")
        states = [self.state_of(p) for p in params]
        total, last = group["weight_sum"], group["weight"]
        longest = 0.4 * lr * (1 + decay * total)
        weight = (longest + math.sqrt(longest**2 + 4 * longest * total)) / 2
        total += weight
        if weight == 0:
            evaluations.gradient()
            return
        share = weight / total
        before = [p.to(s["start"].dtype) for p, s in zip(params, states, strict=True)]
        # x at first; block by block, y takes its place.
        points = [y + share * (s["dual_point"] - y) for y, s in zip(before, states, strict=True)]
        missed = [s["gradient"] - s["block_gradient"] for s in states]
        for number, block in enumerate(self._blocks(len(params))):
            with evaluations.at(points):
                found = zeros_where_absent(evaluations.gradient()[1], params)
            if number == 0:
                for s, g in zip(states, found, strict=True):
                    s["gradient"].copy_(g)
            for i in block:
                s, g = states[i], found[i].to(points[i].dtype)
                s["gradient_sum"].add_(g * weight + missed[i] * last)
                s["block_gradient"].copy_(g)
                s["dual_point"].copy_(self._prox(s["start"] - s["gradient_sum"], total))
                points[i] = before[i] + share * (s["dual_point"] - before[i])
        for s in states:
            s["step"] += 1
        for group in self.param_groups:
            group.update(weight_sum=total, weight=weight)
        move(params, points)

    def _blocks(self, count: int) -> list[range]:
        """Return the tensors of each block, from the last block to the first."""
        blocks = min(self.common("blocks") or count, count)
        cuts = [count * i // blocks for i in range(blocks + 1)]
        return [range(low, high) for low, high in itertools.pairwise(cuts)][::-1]

    def _prox(self, u: Tensor, total: float) -> Tensor:
        shrunk = (u.abs() - total * self.common("l1")).clamp_min(0.0)
        return u.sign() * shrunk / (1 + total * self.common("weight_decay"))
