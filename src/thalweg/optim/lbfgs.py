"""L-BFGS."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Evaluations, Rule
from thalweg.engine.line_search import Place, strong_wolfe
from thalweg.engine.one_vector import VectorOptimizer, blank, gradient_at, rounding
from thalweg.engine.rule import require


@dataclass(frozen=True)
class LBFGSRule(Rule):
    """The settings of `LBFGS`."""

    lr: float = 1.0
    max_iter: int = 20
    history_size: int = 10
    tolerance_grad: float = 1e-7
    tolerance_change: float = 1e-9
    line_search_fn: Literal["strong_wolfe"] | None = "strong_wolfe"

    def check(self) -> None:
        """Refuse no iterations, no history and negative tolerances."""
        super().check()
        for name in ("max_iter", "history_size"):
            require(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("tolerance_grad", "tolerance_change"):
            require(self, name, getattr(self, name) >= 0, "at least 0")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return room for the steps and the changes of the gradient."""
        room = torch.stack([blank(p)] * self.history_size)
        return {"steps": room, "changes": room.clone()}

    def shared(self) -> dict[str, float]:
        """Return how many pairs of the history there are; they come last in their tensors."""
        return {"pairs": 0}


class LBFGS(
    VectorOptimizer,
    rule=LBFGSRule,
    slug="lbfgs",
    reference="Liu and Nocedal 1989",
    space={"lr": Log(3e-2, 1.0)},
):
    """L-BFGS: quasi-Newton with the curvature of the last few steps.

    From the last pairs of a step s and the change y of the gradient along it, the two-loop
    recursion gives ``d = -B g``, where B is what BFGS updates make of ``(s y / y y) I``; then::

        p <- p + rate d

    with the rate of a line search for the strong Wolfe conditions (1e-4 and 0.9, at most 25
    places). A call of `step` makes up to ``max_iter`` such iterations on one closure, and both
    gradients of a pair are of that closure; the history stays for the next call. A pair is kept
    only if its curvature ``s y`` is positive. Where no rate lowers the loss, the call ends and the
    history is forgotten.

    Args:
        params: see `RuleOptimizer`.
        lr: the rate that is tried first; the first iteration without any history tries
            ``lr min(1, 1 / sum |g|)``.
        max_iter: iterations a step.
        history_size: how many pairs are kept.
        tolerance_grad: iterations end when no entry of the gradient is larger.
        tolerance_change: iterations end when no entry moves by more, or the loss by less.
        line_search_fn: "strong_wolfe", or None to go to the rate that is tried first.
        weight_decay: of the penalty ``weight_decay / 2 |p|^2``.

    State: ``steps`` (s) and ``changes`` (y), each ``history_size`` tensors like the parameter, and
    ``pairs``, how many of these are filled.

    When to use: smooth losses on all of the data, or on batches that are large and stay for a
    call: few evaluations to an accurate minimum, with memory that is linear in the parameters.
    On small, changing batches it is no match for SGD or Adam.

    Reference: Liu and Nocedal, "On the Limited Memory BFGS Method for Large Scale Optimization",
    Mathematical Programming 1989; Nocedal and Wright, "Numerical Optimization" (2006), algorithm
    7.4. Arguments as in torch.optim.LBFGS, which keeps 100 pairs and searches no line by default,
    and whose pairs mix the closures of two calls.
    """

    def _moved(self, evaluations: Evaluations, x: Tensor) -> Tensor:
        s, y = (self._history(name, evaluations) for name in ("steps", "changes"))
        loss, g = gradient_at(evaluations, x)
        for _ in range(self.common("max_iter")):
            if g.abs().max() <= self.common("tolerance_grad"):
                break
            d = -_two_loops(s, y, g)
            if torch.dot(g, d) >= 0:
                s = y = s[:0]
                d = -g
            rate = self.common("lr")
            if len(s) == 0:
                rate *= min(1.0, 1 / g.abs().sum().item())
            start = Place(0.0, loss, torch.dot(g, d).item(), g)
            found = self._searched(evaluations, x, d, start, rate)
            if found.rate == 0:
                s = y = s[:0]
                break
            step, change = found.rate * d, found.extra - g
            if torch.dot(step, change) > torch.finfo(x.dtype).eps * torch.dot(change, change):
                s, y = torch.cat([s, step[None]]), torch.cat([y, change[None]])
                s, y = s[-self.common("history_size") :], y[-self.common("history_size") :]
            settled = abs(found.loss - loss) < self.common("tolerance_change")
            x, loss, g = x + step, found.loss, found.extra
            if settled or step.abs().max() <= self.common("tolerance_change"):
                break
        self._keep("steps", s, evaluations)
        self._keep("changes", y, evaluations)
        self._set(pairs=len(s))
        return x

    def _searched(
        self, evaluations: Evaluations, x: Tensor, d: Tensor, start: Place, rate: float
    ) -> Place:
        def place_at(rate: float) -> Place:
            loss, g = gradient_at(evaluations, x + rate * d)
            return Place(rate, loss, torch.dot(g, d).item(), g)

        if self.common("line_search_fn") is None:
            return place_at(rate)
        return strong_wolfe(
            place_at,
            start,
            rate=rate,
            decrease=1e-4,
            curvature=0.9,
            trials=25,
            slack=rounding(start.loss, x),
        )

    def _history(self, name: str, evaluations: Evaluations) -> Tensor:
        """Return the pairs' vectors in rows, the oldest first."""
        size, pairs = self.common("history_size"), self.param_groups[0]["pairs"]
        parts = [self.state_of(p)[name].reshape(size, -1) for p in evaluations.params]
        return torch.cat(parts, 1)[size - pairs :]

    def _keep(self, name: str, rows: Tensor, evaluations: Evaluations) -> None:
        sizes = [p.numel() for p in evaluations.params]
        for p, part in zip(evaluations.params, rows.split(sizes, 1), strict=True):
            state = self.state_of(p)[name]
            state[len(state) - len(rows) :] = part.reshape(len(rows), *p.shape)


def _two_loops(s: Tensor, y: Tensor, g: Tensor) -> Tensor:
    """Return the inverse Hessian of BFGS times a vector, from pairs in rows."""
    q, shares = g, []
    for step, change in zip(s.flip(0), y.flip(0), strict=True):
        shares.append(torch.dot(step, q) / torch.dot(step, change))
        q = q - shares[-1] * change
    if len(s):
        q = q * torch.dot(s[-1], y[-1]) / torch.dot(y[-1], y[-1])
    for step, change, share in zip(s, y, reversed(shares), strict=True):
        q = q + (share - torch.dot(change, q) / torch.dot(step, change)) * step
    return q
