"""OASIS."""

import math
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import ClosureOptimizer, Evaluations, Numbers, Rule, State
from thalweg.engine.rule import require
from thalweg.engine.second_order import Probes, hutchinson


@dataclass(frozen=True)
class OASISRule(Rule):
    """The formula of `OASIS`."""

    lr: float = 1e-3
    beta2: float = 0.99
    alpha: float = 1e-3
    warm_start: int = 10
    adaptive: bool = True
    momentum: float = 0.0
    seed: int = 0

    def check(self) -> None:
        """Refuse decays outside their ranges, no floor and a negative number of probes."""
        super().check()
        require(self, "beta2", 0 <= self.beta2 <= 1, "in [0, 1]")
        require(self, "alpha", self.alpha > 0, "positive")
        require(self, "warm_start", self.warm_start >= 0, "at least 0")
        require(self, "momentum", 0 <= self.momentum < 1, "in [0, 1)")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the diagonal, zero, a copy of the start, and with momentum the mean, zero."""
        state = {"hessian": torch.zeros_like(p), "previous": p.detach().clone()}
        return {**state, "exp_avg": torch.zeros_like(p)} if self.momentum > 0 else state

    def shared(self) -> dict[str, float]:
        """Return the step size, 0 before the first step, and its last growth."""
        return {"eta": 0.0, "theta": math.inf}

    def scalars(self, t: int) -> dict[str, float]:
        """Return the floor, and the decays: of the diagonal there is nothing to keep at first."""
        return {
            "memory": 0.0 if t == 1 else self.beta2,
            "alpha": self.alpha,
            "momentum": self.momentum,
            "bias_correction": 1 - self.momentum**t,
        }

    def measure(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> dict[str, Tensor]:
        """Return the squared lengths of the last step and of the gradient's change along it."""
        scale = self._diagonal(s, k).abs().clamp(min=k.alpha)
        step, change = p - s.previous, g - s.previous_gradient
        return {"moved": (step * step * scale).sum(), "changed": (change * change / scale).sum()}

    def advance(self, shared: MutableMapping[str, float], measured: Mapping[str, float]) -> None:
        """Set the step size: half the inverse of the measured smoothness, of limited growth."""
        last = shared["eta"]
        if last == 0 or not self.adaptive:
            shared["eta"] = self.lr
            return
        eta = math.sqrt(1 + shared["theta"]) * last
        if measured["changed"] > 0:
            eta = min(eta, 0.5 * math.sqrt(measured["moved"] / measured["changed"]))
        if math.isfinite(eta):
            shared["eta"], shared["theta"] = eta, eta / last

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return eta and eta * weight_decay."""
        return k.eta, k.eta * k.weight_decay

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the gradient, or the corrected mean of gradients, over the diagonal."""
        s.previous.copy_(p)
        if hasattr(s, "exp_avg"):
            g = s.exp_avg.lerp_(g, 1 - k.momentum) / k.bias_correction
        diagonal = s.hessian.copy_(self._diagonal(s, k))
        return g / diagonal.abs().clamp(min=k.alpha)

    def _diagonal(self, s: State, k: Numbers) -> Tensor:
        return s.hessian * k.memory + s.probe * (1 - k.memory)


class OASIS(
    ClosureOptimizer,
    rule=OASISRule,
    slug="oasis",
    reference="Jahani et al. 2022, arXiv 2109.05198",
    space={"lr": Log(1e-4, 3e-2), "alpha": Log(1e-4, 1e-1)},
):
    """OASIS: descent scaled by the Hessian's diagonal, with a step size of its own.

    With z random signs, H and g of this step's batch, and g' the gradient of the same batch where
    the parameters were a step ago::

        D <- beta2 D + (1 - beta2) z (H z),    A = max(|D|, alpha)
        eta <- min(sqrt(1 + theta) eta, |p - p'|_A / (2 |g - g'|_(1/A))),   theta = eta / last eta
        p <- (1 - eta weight_decay) p - eta g / A

    where ``|x|_A^2 = sum A x^2``. At first D is the mean of ``warm_start`` probes, eta is lr and
    theta infinite, so that the second eta is the measured one alone. With momentum the mean of
    gradients ``m <- momentum m + (1 - momentum) g`` over ``1 - momentum^t`` takes the place of g
    in the step, and not in the measurement.

    Args:
        params: see `RuleOptimizer`.
        lr: the first step size; a small one does, later ones are measured. A schedule acts on it
            alone, unless ``adaptive`` is False.
        beta2: decay of D, in [0, 1].
        alpha: the least curvature that is divided by, positive.
        warm_start: probes that D starts from; 0 starts it from 1.
        adaptive: whether eta is measured; else it is lr.
        momentum: decay of the mean of gradients, in [0, 1); 0 takes the gradient itself.
        seed: of the probes; those of a step depend on it and on the step alone.
        weight_decay: decoupled.

    State: ``hessian`` (D) and ``previous`` (p'), with momentum ``exp_avg`` (m) too, each a tensor
    like the parameter; eta and theta, which all tensors share.

    When to use: smooth, badly scaled problems, above all convex ones, where no learning rate is
    known. On small batches of neural networks the measured step sizes are noisy; an adaptive step
    costs two gradients and a Hessian product.

    Reference: Jahani et al., "Doubly Adaptive Scaled Algorithm for Machine Learning Using
    Second-Order Information", ICLR 2022, arXiv 2109.05198. No code of the authors was found; this
    follows the paper's form as third-party code has it, except that D takes one new probe a step
    at the present point, where that code (whose Hessian is constant) averages all so far. The
    momentum is that of third-party code for networks, which has no measured step: there, take
    ``adaptive=False`` with it, and a schedule.
    """

    needs_graph: ClassVar[bool] = True
    penalised: ClassVar[bool] = False

    def _step(self, evaluations: Evaluations) -> None:
        params = evaluations.params
        _, gradients = evaluations.graph()
        states = [self.state_of(p) for p in params]
        step = states[0]["step"]
        samples = self.common("warm_start") if step == 0 else 1
        if samples:
            probes = Probes(self, self.common("seed"), "oasis", step)
            probe = hutchinson(gradients, params, samples, probes)
        else:
            probe = [torch.ones_like(p) for p in params]
        found = dict(zip(params, gradients, strict=True))
        previous = found
        if step > 0 and self.common("adaptive"):
            with evaluations.at([state["previous"] for state in states]):
                previous = {p: torch.zeros_like(p) for p in params} | evaluations.gradient()[1]
        probes_at = dict(zip(params, probe, strict=True))
        self._advance(found, {"probe": probes_at, "previous_gradient": self.seen(previous)})
