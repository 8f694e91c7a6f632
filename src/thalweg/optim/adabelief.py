"""AdaBelief."""

from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State
from thalweg.engine.moments import rectification
from thalweg.engine.rule import require


@dataclass(frozen=True)
class AdaBeliefRule(Rule):
    """The formula of `AdaBelief`."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-16
    weight_decouple: bool = True
    fixed_decay: bool = False
    rectify: bool = True
    degenerated_to_sgd: bool = True
    amsgrad: bool = False

    def check(self) -> None:
        """Refuse a maximum in rectified steps, which the authors' code ignores."""
        super().check()
        allowed = "False with rectify=True, where it has no meaning"
        require(self, "amsgrad", not (self.amsgrad and self.rectify), allowed)

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the mean, the variance about it and with amsgrad the maximum of that, zero."""
        names = ["exp_avg", "exp_avg_var"]
        if self.amsgrad:
            names.append("max_exp_avg_var")
        return {name: torch.zeros_like(p) for name in names}

    def scalars(self, t: int) -> dict[str, float]:
        """Return the betas, eps, and how the quotient and the plain mean enter the step."""
        beta1, beta2 = self.betas
        adaptive, plain, root = 1 / (1 - beta1**t), 0.0, (1 - beta2**t) ** 0.5
        if self.rectify:
            factor, root = rectification(t, beta2), 1.0
            plain = adaptive if factor is None and self.degenerated_to_sgd else 0.0
            adaptive *= factor or 0.0
        return {
            "beta1": beta1,
            "beta2": beta2,
            "eps": self.eps,
            "root_bias_correction2": root,
            "adaptive": adaptive,
            "plain": plain,
        }

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return lr, and the decay: with lr, without it if fixed, or 0 if coupled."""
        if not self.weight_decouple:
            return k.lr, 0.0
        return k.lr, k.weight_decay if self.fixed_decay else k.lr * k.weight_decay

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return m over the root of its variance, or m itself while that is unreliable."""
        if not self.weight_decouple:
            g = g + p * k.weight_decay
        m = s.exp_avg.lerp_(g, 1 - k.beta1)
        surprise = g - m
        v = s.exp_avg_var.mul_(k.beta2).add_(surprise * surprise, alpha=1 - k.beta2).add_(k.eps)
        if self.amsgrad:
            v = s.max_exp_avg_var.copy_(torch.maximum(s.max_exp_avg_var, v))
        return m / (v.sqrt() / k.root_bias_correction2 + k.eps) * k.adaptive + m * k.plain


class AdaBelief(
    RuleOptimizer,
    rule=AdaBeliefRule,
    slug="adabelief",
    reference="Zhuang et al. 2020, arXiv 2010.07468",
    space={"lr": Log(1e-4, 1e-1), "weight_decay": Log(1e-3, 1.0)},
):
    r"""AdaBelief: Adam that divides by how far gradients stray from their mean.

    ::

        m <- beta1 m + (1 - beta1) g
        s <- beta2 s + (1 - beta2) (g - m)^2 + eps
        p <- p - lr / (1 - beta1^t) m / (sqrt(s) / sqrt(1 - beta2^t) + eps)

    eps enters twice, and accumulates in s. With ``rectify`` (the default) the second correction
    gives way to the factor of rectified Adam: with N = 2 / (1 - beta2) - 1 and
    N_t = N - 2 t beta2^t / (1 - beta2^t), the step while N_t < 5 is ``lr m / (1 - beta1^t)``,
    then ``lr r / (1 - beta1^t) m / (sqrt(s) + eps)`` with
    r^2 = (1 - beta2^t) (N_t - 4) (N_t - 2) N / ((N - 4) (N - 2) N_t).

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate.
        betas: decay of the mean and of the variance, each in [0, 1).
        eps: see above; 1e-8 for tasks that SGD serves well, 1e-16 for those of Adam.
        weight_decouple: decoupled weight decay, else coupled (L2).
        fixed_decay: with decoupled decay, shrink by weight_decay alone, without lr.
        rectify: rectified steps.
        degenerated_to_sgd: step along m while N_t < 5, else rest.
        amsgrad: divide by the largest s so far; only with ``rectify=False``.
        weight_decay: see the two above.

    State: ``exp_avg`` (m), ``exp_avg_var`` (s) and with amsgrad ``max_exp_avg_var``, like the
    parameter. The default eps is below what float16 can hold; use float32 states or a larger one
    there.

    Reference: Zhuang et al., "AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed
    Gradients", NeurIPS 2020, arXiv 2010.07468; defaults of the authors' package 0.2.1. The paper
    has no rectification. The package ignores amsgrad in rectified steps, which is refused here.
    """
