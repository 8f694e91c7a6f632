"""AMSGrad."""

from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, RuleOptimizer, State, TwoMoments


@dataclass(frozen=True)
class AMSGradRule(TwoMoments):
    """The formula of `AMSGrad`."""

    correct_bias: bool = True

    def scalars(self, t: int) -> dict[str, float]:
        """Return the betas, eps and the two bias corrections, 1 if there are to be none."""
        numbers = super().scalars(t)
        if self.correct_bias:
            return numbers
        return {**numbers, "bias_correction1": 1.0, "root_bias_correction2": 1.0}

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return both moments and the running maximum of the second, zero."""
        return {**super().init(p), "max_exp_avg_sq": torch.zeros_like(p)}

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return m over the root of the largest v so far, which `step_and_decay` completes."""
        m, v = self.moments(g.add(p, alpha=k.weight_decay), s, k)
        s.max_exp_avg_sq.copy_(torch.maximum(s.max_exp_avg_sq, v))
        return m / (s.max_exp_avg_sq.sqrt() / k.root_bias_correction2 + k.eps)


class AMSGrad(
    RuleOptimizer,
    rule=AMSGradRule,
    slug="amsgrad",
    reference="Reddi, Kale & Kumar 2018, arXiv 1904.09237",
    space={"lr": Log(1e-4, 1e-1)},
):
    r"""AMSGrad: Adam over the largest mean square so far, so that steps cannot grow back.

    With ``g <- g + weight_decay p``::

        m <- beta1 m + (1 - beta1) g
        v <- beta2 v + (1 - beta2) g^2
        u <- max(u, v)
        p <- p - lr / (1 - beta1^t) m / (sqrt(u) / sqrt(1 - beta2^t) + eps)

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate.
        betas: decay of the mean and of the mean square, each in [0, 1).
        eps: keeps the quotient finite.
        correct_bias: the two corrections 1 - beta^t, else 1 in their place, as in the paper.
        weight_decay: coupled (L2).

    State: ``exp_avg`` (m), ``exp_avg_sq`` (v), ``max_exp_avg_sq`` (u), like the parameter.

    Reference: Reddi, Kale & Kumar, "On the Convergence of Adam and Beyond", ICLR 2018,
    arXiv 1904.09237. The paper has no bias correction, no eps and a step like lr / sqrt(t); this is
    the form of `torch.optim.Adam(amsgrad=True)`, with the maximum over the uncorrected v. The
    paper's is ``correct_bias=False, eps=0`` with a schedule.
    """
