"""Padam."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from thalweg.core.space import Choice, Log
from thalweg.engine import Numbers, RuleOptimizer, State, TwoMoments
from thalweg.engine.rule import require

# Powers that are roots of roots, which are much faster than a logarithm and an exponential.
HALVINGS = {0.5: 0, 0.25: 1, 0.125: 2, 0.0625: 3}


@dataclass(frozen=True)
class PadamRule(TwoMoments):
    """The formula of `Padam`."""

    lr: float = 0.1
    partial: float = field(default=0.25, metadata={"structural": True})
    amsgrad: bool = True

    def check(self) -> None:
        """Refuse a power outside [0, 1/2]."""
        super().check()
        require(self, "partial", 0 <= self.partial <= 0.5, "in [0, 0.5]")
        divides = self.eps > 0 or self.partial > 0
        require(self, "eps", divides, "above 0 where partial is 0")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return both moments and the maximum of the second, zero."""
        state = super().init(p)
        return state | {"max_exp_avg_sq": torch.zeros_like(p)} if self.amsgrad else state

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return lr with both corrections, and 0: weight decay joins the gradient."""
        return k.lr * k.root_bias_correction2 / k.bias_correction1, 0.0

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return m over a power of the root of v or of its maximum."""
        m, v = self.moments(g.add(p, alpha=k.weight_decay), s, k)
        if self.amsgrad:
            v = s.max_exp_avg_sq.copy_(torch.maximum(s.max_exp_avg_sq, v))
        root = v.sqrt() + k.eps
        if self.partial not in HALVINGS:
            return m * (root.log() * (-2 * self.partial)).exp()
        for _ in range(HALVINGS[self.partial]):
            root = root.sqrt()
        return m / root


class Padam(
    RuleOptimizer,
    rule=PadamRule,
    slug="padam",
    reference="Chen et al. 2020, arXiv 1806.06763",
    space={
        "lr": Log(3e-3, 1.0),
        "partial": Choice((0.0625, 0.125, 0.25)),
        "weight_decay": Log(1e-6, 1e-2),
    },
):
    r"""Padam: partially adaptive, between SGD with momentum (partial = 0) and AMSGrad (1/2).

    With ``g <- g + weight_decay p``::

        m <- beta1 m + (1 - beta1) g
        v <- beta2 v + (1 - beta2) g^2,   w <- max(w, v)
        p <- p - lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(w) + eps)^(2 partial)

    When to use: convolutional networks on which Adam generalises worse than SGD, with SGD's
    learning rates and schedules.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate.
        betas: decay of the mean and of the mean square, each in [0, 1).
        eps: keeps the quotient finite.
        partial: half of the power of the root, in [0, 1/2].
        amsgrad: divide by the largest v so far, else by v.
        weight_decay: coupled (L2).

    State: ``exp_avg`` (m), ``exp_avg_sq`` (v) and with amsgrad ``max_exp_avg_sq`` (w), two or three
    tensors like the parameter.

    Reference: Chen et al., "Closing the Generalization Gap of Adaptive Gradient Methods in
    Training Deep Neural Networks", IJCAI 2020, arXiv 1806.06763. The paper has no corrections;
    this is the authors' code.
    """
