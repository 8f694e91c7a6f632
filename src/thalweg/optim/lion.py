"""Lion."""

from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State, sign


@dataclass(frozen=True)
class LionRule(Rule):
    """The formula of `Lion`."""

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the momentum, zero."""
        return {"exp_avg": torch.zeros_like(p)}

    def scalars(self, t: int) -> dict[str, float]:
        """Return the betas."""
        del t
        return {"beta1": self.betas[0], "beta2": self.betas[1]}

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the sign of the interpolated momentum, then move the momentum on."""
        del p
        d = sign(s.exp_avg * k.beta1 + g * (1 - k.beta1))
        s.exp_avg.lerp_(g, 1 - k.beta2)
        return d


class Lion(
    RuleOptimizer,
    rule=LionRule,
    slug="lion",
    reference="Chen et al. 2023, arXiv 2302.06675",
    space={"lr": Log(1e-5, 1e-2), "weight_decay": Log(1e-2, 10.0)},
):
    r"""Lion: the sign of an interpolated momentum; every entry moves by exactly lr.

    ::

        p <- (1 - lr weight_decay) p - lr sign(beta1 m + (1 - beta1) g)
        m <- beta2 m + (1 - beta2) g

    Against AdamW the authors advise a learning rate 3 to 10 times smaller and a weight decay 3 to
    10 times larger. A NaN in the gradient reaches the parameter (the sign of NaN is NaN here).

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate.
        betas: weight of the momentum in the step, and decay of the momentum, each in [0, 1).
        weight_decay: decoupled.

    State: ``exp_avg`` (m), like the parameter.

    Reference: Chen et al., "Symbolic Discovery of Optimization Algorithms", NeurIPS 2023,
    arXiv 2302.06675.
    """
