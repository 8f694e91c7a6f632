"""MARS-AdamW."""

from dataclasses import dataclass

from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, State
from thalweg.engine.mars import MARSOptimizer, MARSRule


@dataclass(frozen=True)
class MARSAdamWRule(MARSRule):
    """The formula of `MARSAdamW`."""

    def keeps_squares(self, p: Tensor) -> bool:
        """Return True: all tensors have Adam's second moment."""
        del p
        return True

    def corrected_direction(self, c: Tensor, s: State, k: Numbers) -> Tensor:
        """Return Adam's direction for the corrected gradient."""
        return self.adam(c, s, k)


class MARSAdamW(
    MARSOptimizer,
    rule=MARSAdamWRule,
    slug="mars-adamw",
    reference="Yuan et al. 2025, arXiv 2411.10438",
    space={"lr": Log(1e-4, 3e-2), "lr_1d": Log(1e-4, 3e-2), "weight_decay": Log(1e-3, 1.0)},
):
    r"""MARS-AdamW: AdamW on gradients that are corrected by how they change from step to step.

    For each matrix, with its norm over all entries::

        c  = g + gamma beta1 / (1 - beta1) (g - g_before),   c <- c / max(1, |c|)
        m <- beta1 m + (1 - beta1) c
        v <- beta2 v + (1 - beta2) c^2
        p <- p - lr (m / (1 - beta1^t) / (sqrt(v) / sqrt(1 - beta2^t) + eps) + weight_decay p)

    g_before is the last step's gradient (zero at first), or with ``exact`` the gradient of the
    current batch where the last step began. Vectors, scalars and convolutions take AdamW with
    ``lr_1d``, ``betas_1d`` and ``weight_decay_1d``.

    When to use: language models, in AdamW's place, at rates a few times as high. The correction
    makes c noisier unless batches are large or ``exact``, which costs a second gradient, removes
    the noise that both points share.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate of the matrices.
        betas: decay of the mean and of the mean square, each in [0, 1).
        eps: keeps the quotient finite.
        gamma: strength of the correction; without it this is AdamW on gradients of norm 1 at most.
        amsgrad: divide by the largest mean square so far.
        exact: evaluate every batch at the last point too; `step` then needs a closure.
        optimize_1d: treat all tensors as the matrices.
        lr_1d: learning rate of the others; schedules that scale lr scale it alike.
        betas_1d: their betas.
        weight_decay_1d: theirs.
        weight_decay: decoupled, for the matrices.

    State: ``exp_avg`` (m), ``exp_avg_sq`` (v) and, for what is corrected, ``last_grad``, three
    tensors like the parameter; ``max_exp_avg_sq`` with amsgrad, and ``previous`` (the last point)
    in last_grad's place with exact. In each group the number ``first_lr``.

    Reference: Yuan et al., "MARS: Unleashing the Power of Variance Reduction for Training Large
    Models", ICML 2025, arXiv 2411.10438; the authors' code. Where the paper starts without a
    correction, it corrects the first gradient too; its description has v of the raw gradient, the
    code of c.
    """
