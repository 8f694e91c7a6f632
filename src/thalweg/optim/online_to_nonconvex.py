"""Online-to-nonconvex conversion."""

import math
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from thalweg.core.seeds import derive_seed
from thalweg.core.space import Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State
from thalweg.engine.rule import require


@dataclass(frozen=True)
class OnlineToNonconvexRule(Rule):
    """The formula of `OnlineToNonconvex`."""

    lr: float = 1e-2
    form: Literal["basic", "exponentiated"] = "basic"
    radius: float = 0.02
    period: int = 20
    beta: float = 0.99
    mu: float = 100.0
    output: Literal["x", "mean"] = "x"
    lengths: Literal["exponential", "uniform"] = "exponential"
    seed: int = 0

    def check(self) -> None:
        """Refuse a radius or period that is not positive, a beta outside (0, 1]."""
        super().check()
        require(self, "radius", self.radius > 0, "positive")
        require(self, "period", self.period >= 1, "at least 1 step")
        require(self, "beta", 0 < self.beta <= 1, "in (0, 1]")
        require(self, "mu", self.mu >= 0, "at least 0")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the learner's move, zero, and in the basic form x, from p on, and the mean."""
        state = {"delta": torch.zeros_like(p)}
        if self.form == "basic":
            state["x"] = p.detach().clone()
            if self.output == "mean":
                state["mean"] = torch.zeros_like(p)
        return state

    def shared(self) -> dict[str, float]:
        """Return the factor of the projection of all moves together."""
        return {"projection": 1.0}

    def scalars(self, t: int) -> dict[str, float]:
        """Return what is kept of a move, its random scaling, and the gradient's weights.

        The gradient's importance belongs to the scaling of the move before, its share to the mean.
        """
        if self.form == "basic":
            keep, scaling = 1.0 if t % self.period else 0.0, self._uniform(t)
            share = 1 / ((t - 1) % self.period + 1)
            return {"keep": keep, "scaling": scaling, "importance": 1.0, "share": share}
        keep, importance = self.beta / (1 + self.lr * self.mu), 1.0
        if self.lengths == "exponential":
            scaling = -math.log1p(-self._uniform(t))
        else:
            scaling = 2 * self._uniform(t)
            importance = 2 - 2 * self._uniform(t - 1) if t > 1 else 1.0
        return {"keep": keep, "scaling": scaling, "importance": importance}

    def _uniform(self, t: int) -> float:
        return derive_seed(self.seed, "online-to-nonconvex", t) / 2**63

    def measure(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> dict[str, Tensor]:
        """Return the squared norm of the move before its projection, which "basic" alone has."""
        move = s.delta - (g + p * k.weight_decay) * k.lr
        return {"square": (move * move).sum()}

    def advance(self, shared: MutableMapping[str, float], measured: Mapping[str, float]) -> None:
        """Set the factor that brings the move into the ball."""
        norm = measured["square"] ** 0.5
        if self.form == "basic":
            shared["projection"] = self.radius / max(norm, self.radius)

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return 1 and 0: `update` returns the whole movement."""
        return 1.0, 0.0

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the movement to the next point where a gradient is taken."""
        start = s.x.add_(s.delta) if hasattr(s, "x") else p
        if hasattr(s, "mean"):
            s.mean.lerp_(p, k.share)
        g = (g + p * k.weight_decay) * (k.importance * k.lr)
        delta = s.delta.sub_(g).mul_(k.projection * k.keep)
        return p - start - delta * k.scaling

    def evaluation_weights(self, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return x, or the mean of the period's w."""
        del k
        if hasattr(s, "mean"):
            return s.mean
        return s.x if hasattr(s, "x") else p

    def training_weights(self, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return w."""
        return s.x + s.delta * k.scaling if hasattr(s, "x") else p


class OnlineToNonconvex(
    RuleOptimizer,
    rule=OnlineToNonconvexRule,
    slug="online-to-nonconvex",
    name="Online to nonconvex",
    reference="Cutkosky, Mehta & Orabona 2023, arXiv 2302.03775",
    space={"lr": Log(1e-3, 3e-1), "radius": Log(3e-3, 3e-1)},
):
    r"""Online-to-nonconvex conversion: an online learner picks the moves, chance their length.

    "basic", with a uniform random s in [0, 1), moves Delta from projected online gradient descent,
    and the norm over all tensors; gradients are taken at w, which the parameters hold::

        x     <- x + Delta
        Delta <- project(Delta - lr g(w)) onto |Delta| <= radius;  0 after every ``period`` steps
        w      = x + s Delta

    On average over s, ``<g(w), Delta>`` is exactly the change of the loss from x to x + Delta, so
    that a learner with small regret finds, within some period, gradients that average to nearly
    nothing at points within ``radius period`` of each other: stationarity without smoothness.
    Evaluation weights (`eval`) are x, or with ``output="mean"`` the mean of the w of the period so
    far. After a whole period, a multiple of ``period`` steps, that is the paper's output, which it
    takes from a random period.

    "exponentiated", with s from the exponential distribution of mean 1, gradients at the iterate
    itself, and online mirror descent on losses that fade by beta::

        Delta <- beta / (1 + lr mu) (Delta - lr g(p))
        p     <- p + s Delta

    which is SGD with momentum whose every step has a random length. With ``lengths="uniform"`` s is
    uniform in [0, 2), and the gradient that follows the move by s counts ``2 - s`` times: its
    product with Delta is then again the change of the loss on average.

    When to use: nonsmooth, nonconvex losses where the guarantee matters; "exponentiated" trains
    about as SGD with momentum does.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate of the learner.
        form: "basic" or "exponentiated".
        radius: bound on the length of a move; "basic" only.
        period: steps after which the learner starts anew; "basic" only.
        beta: what fades from step to step, in (0, 1]; "exponentiated" only.
        mu: regularisation of moves, at least 0; "exponentiated" only.
        output: what is evaluated, "x" or "mean"; "basic" only.
        lengths: "exponential" or "uniform"; "exponentiated" only.
        seed: of the random lengths, which are drawn from it and the step's number alone, the same
            for all tensors.
        weight_decay: coupled (L2).

    State: ``delta``, in the basic form ``x`` and for its output ``mean``, each a tensor like the
    parameter; in each group the number ``projection``.

    Reference: Cutkosky, Mehta & Orabona, "Optimal Stochastic Non-smooth Non-convex Optimization
    through Online-to-Non-convex Conversion", ICML 2023, arXiv 2302.03775; Zhang & Cutkosky, "Random
    Scaling and Momentum for Non-smooth Non-convex Optimization", ICML 2024, arXiv 2405.09742
    (exponentiated), with beta, mu and the uniform lengths of the authors' code. No code of the
    first paper was found, and radius and period are ours.
    """
