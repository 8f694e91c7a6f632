"""AdamW."""

from dataclasses import dataclass

from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, RuleOptimizer, State, TwoMoments


@dataclass(frozen=True)
class AdamWRule(TwoMoments):
    """The formula of `AdamW`."""

    weight_decay: float = 1e-2

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return lr / (1 - beta1^t) and lr * weight_decay."""
        return k.lr / k.bias_correction1, k.lr * k.weight_decay

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return m over the root of v, which `step_and_decay` completes."""
        del p
        m, v = self.moments(g, s, k)
        return m / (v.sqrt() / k.root_bias_correction2 + k.eps)


class AdamW(
    RuleOptimizer,
    rule=AdamWRule,
    slug="adamw",
    reference="Loshchilov & Hutter 2019, arXiv 1711.05101",
    space={"lr": Log(1e-4, 1e-1), "weight_decay": Log(1e-3, 1.0)},
):
    r"""AdamW: Adam whose weight decay is decoupled from the adaptive step.

    ::

        p <- (1 - lr weight_decay) p
        m <- beta1 m + (1 - beta1) g
        v <- beta2 v + (1 - beta2) g^2
        p <- p - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate.
        betas: decay of the mean and of the mean square, each in [0, 1).
        eps: keeps the quotient finite.
        weight_decay: decoupled; a step shrinks p by ``lr * weight_decay``.

    State: ``exp_avg`` (m) and ``exp_avg_sq`` (v), like the parameter.

    Reference: Loshchilov & Hutter, "Decoupled Weight Decay Regularization", ICLR 2019,
    arXiv 1711.05101. The paper multiplies the decay by the schedule alone; as in
    `torch.optim.AdamW`, lr multiplies it here.
    """
