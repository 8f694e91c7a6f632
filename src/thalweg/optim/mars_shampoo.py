"""MARS-Shampoo."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, State
from thalweg.engine.distributed import gathered, like
from thalweg.engine.mars import MARSOptimizer, MARSRule
from thalweg.engine.orthogonal import orthogonalised


@dataclass(frozen=True)
class MARSShampooRule(MARSRule):
    """The formula of `MARSShampoo`."""

    reads: ClassVar[Literal["element", "tensor"]] = "tensor"

    def keeps_squares(self, p: Tensor) -> bool:
        """Return whether the tensor is no matrix."""
        return p.ndim != 2

    def corrected_direction(self, c: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the orthogonalised mean of corrected gradients, or Adam's direction for them."""
        if self.keeps_squares(c):
            return self.adam(c, s, k)
        m = gathered(s.exp_avg.lerp_(c, 1 - k.beta1)) / (1 - k.beta1)
        o = orthogonalised(m, exact=False, eps=k.eps)
        rows, columns = o.shape
        return like(o * max(1.0, rows / max(columns, 1)) ** 0.5, c)


class MARSShampoo(
    MARSOptimizer,
    rule=MARSShampooRule,
    slug="mars-shampoo",
    reference="Yuan et al. 2025, arXiv 2411.10438",
    space={"lr": Log(1e-3, 3e-1), "lr_1d": Log(1e-4, 3e-2), "weight_decay": Log(1e-3, 1.0)},
):
    r"""MARS-Shampoo: an orthogonalised mean of gradients that are corrected by how they change.

    For each matrix, with its norm over all entries::

        c  = g + gamma beta1 / (1 - beta1) (g - g_before),   c <- c / max(1, |c|)
        m <- beta1 m + (1 - beta1) c
        o  = newton_schulz(m / (1 - beta1))
        p <- p - lr (max(1, rows / columns)^(1/2) o + weight_decay p)

    g_before is the last step's gradient (zero at first), or with ``exact`` the gradient of the
    current batch where the last step began. Vectors, scalars and convolutions take AdamW with
    ``lr_1d``, ``betas_1d`` and ``weight_decay_1d``, or with ``optimize_1d`` MARS-AdamW.

    When to use: where Muon does well, at its learning rates. Unlike Muon it orthogonalises
    embeddings and the output layer as well; give those a group of another rule.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate of the matrices.
        betas: decay of the mean, and of the mean square in MARS-AdamW, each in [0, 1).
        eps: added to the norm before Newton-Schulz; keeps Adam's quotients finite.
        gamma: strength of the correction.
        amsgrad: in Adam's quotients, divide by the largest mean square so far.
        exact: evaluate every batch at the last point too; `step` then needs a closure.
        optimize_1d: correct the gradients of all tensors.
        lr_1d: learning rate of the others; schedules that scale lr scale it alike.
        betas_1d: their betas.
        weight_decay_1d: theirs.
        weight_decay: decoupled, for the matrices.

    State: ``exp_avg`` (m) and ``last_grad`` for matrices (with exact ``previous``, the last point,
    in its place), AdamW's ``exp_avg`` and ``exp_avg_sq`` for the others: two tensors like the
    parameter. In each group the number ``first_lr``.

    Reference: Yuan et al., "MARS: Unleashing the Power of Variance Reduction for Training Large
    Models", ICML 2025, arXiv 2411.10438; the authors' code, which iterates in bfloat16. Here the
    dtype is that of `Muon`. The later MARS-M (arXiv 2510.21800), with Muon's scaling by
    0.2 max(rows, columns)^(1/2) in place of this one, is not offered.
    """
