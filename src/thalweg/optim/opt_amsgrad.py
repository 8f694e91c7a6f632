"""Optimistic AMSGrad."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State
from thalweg.engine.rule import require


@dataclass(frozen=True)
class OptAMSGradRule(Rule):
    """The formula of `OptAMSGrad`."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    hint: Literal["previous", "extrapolation", "none"] = "previous"
    span: int = 5
    ridge: float = 1e-3

    def check(self) -> None:
        """Refuse a start of the squares, a span and a ridge that are not positive."""
        super().check()
        require(self, "eps", self.eps > 0, "positive")
        require(self, "span", self.span >= 1, "at least 1")
        require(self, "ridge", self.ridge > 0, "positive")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the mean, the hint, the step ahead and past gradients, 0, and squares at eps."""
        zero = ["exp_avg", "ahead", *self._past()]
        if self.hint != "none":
            zero.append("hint")
        return {
            **{name: torch.zeros_like(p) for name in zero},
            "exp_avg_sq": torch.full_like(p, self.eps),
            "max_exp_avg_sq": torch.full_like(p, self.eps),
        }

    def _past(self) -> list[str]:
        """Return the names of the gradients that are kept, the newest first."""
        if self.hint != "extrapolation":
            return []
        return [f"past_{age}" for age in range(1, self.span + 1)]

    def shared(self) -> dict[str, float]:
        """Return the steps taken, and the weights of the newest gradients in the hint."""
        if not self._past():
            return {}
        return {"seen": 0, **{f"weight_{age}": 0.0 for age in range(self.span)}}

    def scalars(self, t: int) -> dict[str, float]:
        """Return the betas."""
        del t
        beta1, beta2 = self.betas
        return {"beta1": beta1, "beta2": beta2}

    def _newest(self, g: Tensor, s: State) -> list[Tensor]:
        """Return this gradient and the past ones."""
        return [g, *(getattr(s, name) for name in self._past())]

    def measure(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> dict[str, Tensor]:
        """Return the products of the gradients' differences with each other."""
        del p, k
        newest = self._newest(g, s)
        differences = [x - y for x, y in pairwise(newest)]
        if not differences:
            return {"none": g.sum()}  # a pass has at least one sum
        return {
            f"product_{i}_{j}": (differences[i] * differences[j]).sum()
            for i in range(len(differences))
            for j in range(i + 1)
        }

    def advance(self, shared: MutableMapping[str, float], measured: Mapping[str, float]) -> None:
        """Weigh the newest gradients, as many as there are differences to judge them by."""
        if not self._past():
            return
        known = [age for age in range(self.span) if age < shared["seen"]]
        shared["seen"] += 1
        products = torch.tensor(
            [[measured[f"product_{max(i, j)}_{min(i, j)}"] for j in known] for i in known],
            dtype=torch.float64,
        ).reshape(len(known), len(known))
        ridge = torch.eye(len(known), dtype=torch.float64) * self.ridge
        z = torch.linalg.solve(products + ridge, torch.ones(len(known), dtype=torch.float64))
        weights = (z / z.sum()).tolist() or [1.0]
        shared.update({f"weight_{age}": weight for age, weight in enumerate(weights)})

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return 1, as `update` returns the whole step, and lr * weight_decay."""
        return 1.0, k.lr * k.weight_decay

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the step along h and the one ahead along the hint, less the last one ahead."""
        del p
        error = g if self.hint == "none" else g - s.hint
        v = s.exp_avg_sq.mul_(k.beta2).add_(error * error, alpha=1 - k.beta2)
        root = s.max_exp_avg_sq.copy_(torch.maximum(s.max_exp_avg_sq, v)).sqrt()
        h = s.exp_avg.mul_(k.beta1)
        ahead = h / root * k.lr
        if self.hint != "none":
            s.hint.copy_(self._hint(g, s, k))
            ahead = (h + s.hint * (1 - k.beta1)) / root * k.lr
        h.add_(g, alpha=1 - k.beta1)
        d = h / root * k.lr + ahead - s.ahead
        s.ahead.copy_(ahead)
        return d

    def _hint(self, g: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the next gradient's guess, and let the past move on."""
        if not self._past():
            return g
        newest = self._newest(g, s)
        guess = g * k.weight_0
        for age in range(1, self.span):
            guess = guess + newest[age] * getattr(k, f"weight_{age}")
        for age in range(self.span, 0, -1):
            newest[age].copy_(newest[age - 1])
        return guess


class OptAMSGrad(
    RuleOptimizer,
    rule=OptAMSGradRule,
    slug="opt-amsgrad",
    reference="Wang et al. 2021, arXiv 1903.01435",
    space={"lr": Log(1e-4, 1e-1), "weight_decay": Log(1e-3, 1.0)},
):
    r"""Optimistic AMSGrad: a step along the mean, and one ahead along a guess of the next gradient.

    With the guess n of g that the step before made (0 at first), u = p at the start, h_ the h
    before the step::

        h <- beta1 h + (1 - beta1) g
        v <- beta2 v + (1 - beta2) (g - n)^2,   w <- max(w, v)          (both start at eps)
        u <- u - lr h / sqrt(w) - lr weight_decay p
        n <- the guess of the next gradient
        p <- u - lr (beta1 h_ + (1 - beta1) n) / sqrt(w)

    The guess is g itself (hint "previous"), 0 ("none", with which v is AMSGrad's), or the
    regularised minimal polynomial extrapolation of the last ``span`` gradients x_i, which fits all
    parameters together: with U the differences x_i - x_(i-1),

        z = (U^T U + ridge 1)^-1 (1, ..., 1),     n = sum_i z_i x_i / sum_i z_i

    Before so many gradients have come, those that there are count. A tensor that joins later has
    zeros for what it missed.

    When to use: gradients that can be foreseen: large batches, full gradients, games. Where the
    guess is right, w stays small and steps are long; with noise it is AMSGrad on doubled variance.
    There are no corrections, so first steps are up to lr / sqrt(1 - beta2) long: choose lr below
    Adam's.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate.
        betas: decay of the mean and of the mean square, each in [0, 1).
        eps: start of the squares, positive. The default is below what float16 can hold; use
            float32 parameters or a larger one there.
        hint: "previous", "extrapolation" or "none".
        span: how many gradients are extrapolated, at least 1.
        ridge: keeps their weights bounded, positive.
        weight_decay: decoupled; not in the paper.

    State: ``exp_avg`` (h), ``exp_avg_sq`` (v), ``max_exp_avg_sq`` (w), ``hint`` (n, but for "none")
    and ``ahead`` (u - p): five tensors like the parameter, and with extrapolation ``past_1`` to
    ``past_<span>`` besides.

    Reference: Wang, Li, Karimi & Li, "An Optimistic Acceleration of AMSGrad for Nonconvex
    Optimization", ACML 2021, arXiv 1903.01435. This is the paper's rule; span, ridge, beta2 and
    the pairing of weights with the newer end of each difference are those of the authors' code,
    which differs otherwise: it has Adam's corrections, and extrapolates the parameters and takes a
    gradient there.
    """
