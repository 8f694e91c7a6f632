"""SGD with D-Adaptation."""

import math
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, RuleOptimizer, State
from thalweg.engine.d_adaptation import DAdaptation
from thalweg.engine.rule import require


@dataclass(frozen=True)
class DAdaptSGDRule(DAdaptation):
    """The formula of `DAdaptSGD`."""

    lr: float = 1.0
    momentum: float = 0.0
    d0: float = 1e-6
    growth_rate: float = math.inf

    def check(self) -> None:
        """Refuse a momentum outside [0, 1)."""
        super().check()
        require(self, "momentum", 0 <= self.momentum < 1, "in [0, 1)")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the sum of weighted gradients, zero, and a copy of the start."""
        return {"s": torch.zeros_like(p), "x0": p.detach().clone()}

    def shared(self) -> dict[str, float]:
        """Return the estimate, its numerator, the norm of the first gradient, and d over it."""
        return {"d": self.d0, "numerator": 0.0, "g0_norm": 0.0, "scale": 0.0}

    def scalars(self, t: int) -> dict[str, float]:
        """Return the share of the old point, which is all at lr = 0, and whether lr is not 0."""
        del t
        moves = 1.0 if self.lr > 0 else 0.0
        return {"momentum": self.momentum if moves else 1.0, "moves": moves}

    def measure(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> dict[str, Tensor]:
        """Return |g|^2 and the products of lr g and s among themselves; 0 at lr = 0."""
        g = g + p * k.weight_decay
        step = g * k.lr
        return {
            "first": (g * g * k.moves).sum(),
            "gg": (step * step).sum(),
            "gs": (step * s.s).sum(),
            "ss": (s.s * s.s * k.moves).sum(),
        }

    def advance(self, shared: MutableMapping[str, float], measured: Mapping[str, float]) -> None:
        """Estimate the distance anew. Without any gradient yet, stand still."""
        if shared["g0_norm"] == 0:
            shared["g0_norm"] = measured["first"] ** 0.5
        if shared["g0_norm"] == 0:
            return
        scale = shared["scale"] = shared["d"] / shared["g0_norm"]
        gs = scale * measured["gs"]
        shared["numerator"] += gs
        square = measured["ss"] + 2 * gs + scale**2 * measured["gg"]
        norm = max(square, 0.0) ** 0.5
        if norm != 0:
            shared["d"] = self.grown(shared["d"], 2 * shared["numerator"] / norm)

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return 1 and 0: `update` returns the whole movement."""
        return 1.0, 0.0

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the way to z = x0 - s, shortened by momentum."""
        s.s.add_((g + p * k.weight_decay) * (k.lr * k.scale))
        return (p - (s.x0 - s.s)) * (1 - k.momentum)


class DAdaptSGD(
    RuleOptimizer,
    rule=DAdaptSGDRule,
    slug="dadapt-sgd",
    name="D-Adapt SGD",
    reference="Defazio & Mishchenko 2023, arXiv 2301.07733",
    space={"lr": Log(0.1, 10.0), "weight_decay": Log(1e-6, 1e-2)},
):
    r"""D-Adapt SGD: dual averaging that estimates its learning rate from the distance travelled.

    With one estimate d for all parameters, the first gradient's norm G0 and sums over all
    tensors::

        N <- N + d lr / G0 <g, s>
        s <- s + d lr / G0 g
        d' = max(d, min(2 N / |s|, growth_rate d))
        z  = x0 - s
        p <- momentum p + (1 - momentum) z

    d is a lower bound of the distance from the start x0 to the solution of a convex problem and
    never shrinks. Rescaling the loss does not change the path.

    A tensor whose lr is 0 rests: it and its state stay as they are, and the sums do without it. A
    step with lr = 0 in all groups is as if it had not been.

    When to use: SGD without a learning rate to tune, on problems near to convex; where Adam is
    the better rule, `DAdaptAdam` and `Prodigy` are too. Leave lr at 1 and give it a schedule.

    Args:
        params: see `RuleOptimizer`.
        lr: multiplies the estimate; equal in all groups, or 0.
        momentum: share of the old point, in [0, 1); 0.9 in the authors' experiments.
        d0: first estimate, below the true distance.
        growth_rate: bound on the growth of d in one step.
        weight_decay: coupled (L2).

    State: ``s`` and ``x0``, two tensors like the parameter; in each group the numbers ``d``,
    ``numerator`` (N), ``g0_norm`` (G0) and ``scale`` (d / G0 of the last step).

    Reference: Defazio & Mishchenko, "Learning-Rate-Free Learning by D-Adaptation", ICML 2023,
    arXiv 2301.07733. The authors' code leaves weight decay out of G0 and divides by 0 where the
    first gradient is 0; here G0 is the norm of the first gradient that is not 0, decay included.
    There a group whose lr falls to 0 beside others still moves on towards its z; here it rests.
    """
