"""Nesterov's acceleration for stochastic gradients under interpolation."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State
from thalweg.engine.rule import require


@dataclass(frozen=True)
class NesterovInterpolationRule(Rule):
    """The formula of `NesterovInterpolation`.

    Every form keeps w and v, with y at the share ``mix`` of the way from w to v, and its step is

        w <- y - rate g,   v <- y + keep (v - y) - pull g

    so that y - w, all that is stored, becomes ``carry (y - w) - push g`` with
    ``carry = mix' keep (1 / mix - 1)`` and ``push = mix' (pull - rate)``.
    """

    lr: float = 0.1
    form: Literal["strongly-convex", "convex", "estimating", "mass", "agnes"] = "strongly-convex"
    rho: float = 1.0
    mu: float = 0.01
    gamma: float = 1.0
    alpha: float = 0.05
    kappa: float = 12.0
    correction: float = 0.1
    momentum: float = 0.99

    def check(self) -> None:
        """Refuse constants that are not positive, and shares beyond both of their ends."""
        super().check()
        require(self, "rho", self.rho >= 1, "at least 1")
        require(self, "mu", self.mu >= 0, "at least 0")
        if self.form == "strongly-convex":
            require(self, "mu", self.mu > 0, 'positive (form "convex" goes without)')
        for name in ("gamma", "kappa"):
            require(self, name, getattr(self, name) > 0, "positive")
        require(self, "alpha", 0 < self.alpha < 1, "in (0, 1)")
        require(self, "correction", self.correction >= 0, "at least 0")
        require(self, "momentum", 0 <= self.momentum < 1, "in [0, 1)")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return y - w, zero."""
        return {"momentum_buffer": torch.zeros_like(p)}

    def shared(self) -> dict[str, float]:
        """Return the weight that some forms move on, and the step's two numbers."""
        start = self.gamma if self.form == "estimating" else 1 / self.rho
        return {"weight": start, "carry": 0.0, "push": 0.0}

    def advance(self, shared: MutableMapping[str, float], measured: Mapping[str, float]) -> None:
        """Set the step's numbers, and move the weight on."""
        del measured
        if self.form == "convex":
            shared["weight"], *numbers = self._convex(shared["weight"])
        elif self.form == "estimating":
            shared["weight"], *numbers = self._estimating(shared["weight"])
        elif self.form == "mass":
            numbers = self._mass()
        elif self.form == "agnes":
            numbers = self.momentum, self.momentum * self.lr
        else:
            numbers = self._strongly_convex()
        shared["carry"], shared["push"] = numbers

    def _strongly_convex(self) -> tuple[float, float]:
        rate = (self.mu * self.lr / self.rho) ** 0.5
        push = rate / (1 + rate) * (rate / self.mu - self.lr)
        return (1 - rate) / (1 + rate), push

    def _convex(self, weight: float) -> tuple[float, float, float]:
        share = 1 / self.rho
        after = (share + (share**2 + 4 * weight**2) ** 0.5) / 2
        return after, (weight - share) / after, (weight - 1) * share / after * self.lr

    def _estimating(self, weight: float) -> tuple[float, float, float]:
        if self.lr == 0:
            return weight, 1.0, 0.0
        alpha = self._root(weight)
        after = (1 - alpha) * weight + alpha * self.mu
        following = self._root(after)
        mix = following * after / (after + following * self.mu)
        carry = mix * (1 - alpha) / alpha
        return after, carry, carry * self.lr

    def _root(self, weight: float) -> float:
        """Return the positive alpha with alpha^2 = lr ((1 - alpha) weight + alpha mu)."""
        slope = self.lr * (weight - self.mu)
        return ((slope**2 + 4 * self.lr * weight) ** 0.5 - slope) / 2

    def _mass(self) -> tuple[float, float]:
        push = self.lr * (1 / self.kappa - self.alpha)
        return (1 - self.alpha) / (1 + self.alpha), push / (1 + self.alpha)

    def scalars(self, t: int) -> dict[str, float]:
        """Return the step of w along the gradient."""
        del t
        return {"rate": self.correction if self.form == "agnes" else self.lr}

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return 1 and 0: `update` returns the whole movement of y."""
        return 1.0, 0.0

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the movement of y, and move y - w on."""
        g = g + p * k.weight_decay
        return g * k.rate - s.momentum_buffer.mul_(k.carry).sub_(g * k.push)

    def evaluation_weights(self, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return w."""
        del k
        return p - s.momentum_buffer

    def training_weights(self, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return y."""
        del k
        return p + s.momentum_buffer


class NesterovInterpolation(
    RuleOptimizer,
    rule=NesterovInterpolationRule,
    slug="nesterov-interpolation",
    name="Nesterov under interpolation",
    reference="Vaswani, Bach & Schmidt 2018, arXiv 1810.07288",
    space={"lr": Log(3e-3, 1.0), "mu": Log(1e-3, 1.0)},
):
    r"""Nesterov's acceleration with constants for stochastic gradients that vanish together.

    Where a model can fit every sample, gradient noise vanishes at the solution and obeys the
    strong growth condition ``E |g|^2 <= rho |grad f|^2``; with the right constants acceleration
    then survives the noise. Gradients are taken at y, which the parameters hold while training::

        y = (1 - mix) w + mix v
        w <- y - lr g(y)
        v <- keep v + (1 - keep) y - pull g(y)

    =================  =======================  ==========================  =======================
    form               mix                      keep                        pull
    =================  =======================  ==========================  =======================
    strongly-convex    q / (1 + q)              1 - q, q^2 = mu lr / rho    q / mu
    convex             1 / (rho c_t)            1                           c_t lr
    estimating         a c / (c + a mu)         (1 - a) c / c'              a / c'
    mass               alpha / (1 + alpha)      1 - alpha                   lr / (alpha kappa)
    agnes              1 - momentum             1                           see below
    =================  =======================  ==========================  =======================

    with ``c_1 = 1 / rho``, ``c_(t+1) = (1 / rho + sqrt(1 / rho^2 + 4 c_t^2)) / 2``; in the
    estimating sequence c starts at ``gamma``, ``a^2 = lr c'``, ``c' = (1 - a) c + a mu``. AGNES
    has ``correction`` as the step of w and ``pull = correction + lr momentum / (1 - momentum)``.

    **Evaluate and save at w**: call ``optimizer.eval()`` before and ``optimizer.train()`` after;
    a step in between is an error.

    When to use: over-parametrised models trained to (near) zero loss, where mini-batches agree;
    the first three forms take ``lr = 1 / (rho L)`` and are of use where the constants are known.
    Elsewhere "mass" or "agnes", with the batch noise in kappa or correction.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate; the authors of MaSS use 0.1, those of AGNES 1e-3.
        form: see the table.
        rho: constant of strong growth, at least 1; without noise 1.
        mu: strong convexity; positive for "strongly-convex", may be 0 for "estimating".
        gamma: first curvature of the estimating sequence.
        alpha: share of v in the average, in (0, 1); "mass" only.
        kappa: how much the compensation lessens the pull on v; "mass" only.
        correction: step along the gradient alone; "agnes" only.
        momentum: decay of the velocity, in [0, 1); "agnes" only.
        weight_decay: coupled (L2), at y.

    State: ``momentum_buffer`` (y - w), one tensor like the parameter; in each group the numbers
    ``weight`` (c), ``carry`` and ``push``.

    Reference: Vaswani, Bach & Schmidt, "Fast and Faster Convergence of SGD for
    Over-Parameterized Models and an Accelerated Perceptron", AISTATS 2019, arXiv 1810.07288;
    Mishkin, Pilanci & Schmidt, "Faster Convergence of Stochastic Accelerated Gradient Descent
    under Interpolation", 2024, arXiv 2404.02378 (estimating); Liu & Belkin, "Accelerating SGD
    with Momentum for Over-Parameterized Learning", ICLR 2020, arXiv 1810.13395 (MaSS); Gupta,
    Siegel & Wojtowytsch, "Nesterov Acceleration despite Very Noisy Gradients", NeurIPS 2024,
    arXiv 2302.05515 (AGNES). The last two are their authors' code; no code was found for the
    first two, which are stated from the papers' formulas as others report them.
    """
