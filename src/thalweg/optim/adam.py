"""Adam."""

from dataclasses import dataclass

from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, RuleOptimizer, State, TwoMoments


@dataclass(frozen=True)
class AdamRule(TwoMoments):
    """The formula of `Adam`."""

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return m over the root of v, which `step_and_decay` completes."""
        m, v = self.moments(g.add(p, alpha=k.weight_decay), s, k)
        return m / (v.sqrt() / k.root_bias_correction2 + k.eps)


class Adam(
    RuleOptimizer,
    rule=AdamRule,
    slug="adam",
    reference="Kingma & Ba 2015, arXiv 1412.6980",
    space={"lr": Log(1e-4, 1e-1)},
):
    r"""Adam: the gradient's mean over the root of its mean square, by entry.

    With ``g <- g + weight_decay p``::

        m <- beta1 m + (1 - beta1) g
        v <- beta2 v + (1 - beta2) g^2
        p <- p - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

    eps stands outside the corrected root, as in `torch.optim.Adam`. For decoupled weight decay
    see `AdamW`, for the running maximum `AMSGrad`.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate.
        betas: decay of the mean and of the mean square, each in [0, 1).
        eps: keeps the quotient finite.
        weight_decay: coupled (L2).

    State: ``exp_avg`` (m) and ``exp_avg_sq`` (v), like the parameter.

    Reference: Kingma & Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015,
    arXiv 1412.6980. The paper's eps stands beside the uncorrected root in its efficient form.
    """
