"""Subspace-Momentum."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, RuleOptimizer, State
from thalweg.engine.distributed import gathered
from thalweg.engine.rule import require
from thalweg.engine.subspace import Subspace


@dataclass(frozen=True)
class SubspaceMomentumRule(Subspace):
    """The formula of `SubspaceMomentum`."""

    reads: ClassVar[Literal["element", "tensor"]] = "tensor"

    momentum: float = 0.9

    def check(self) -> None:
        """Refuse a momentum outside [0, 1) too."""
        super().check()
        require(self, "momentum", 0 <= self.momentum < 1, "in [0, 1)")

    def scalars(self, t: int) -> dict[str, float]:
        """Return the momentum and the subspace's numbers."""
        return {**super().scalars(t), "momentum": self.momentum}

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the momentum in the subspace and the gradient outside it."""
        momentum, outside = self.split(gathered(g), s, k.momentum, k)
        return momentum + outside


class SubspaceMomentum(
    RuleOptimizer,
    rule=SubspaceMomentumRule,
    slug="subspace-momentum",
    reference="Nguyen & Nguyen 2025, arXiv 2411.07120",
    space={"lr": Log(1e-3, 3.0), "weight_decay": Log(1e-6, 1e-2)},
):
    r"""Subspace-Momentum: momentum in a subspace, plain gradient descent outside it.

    For a matrix, with P the projection onto a subspace of dimension ``rank`` on one side::

        M <- momentum M + (1 - momentum) P g          (M = 0 whenever P is chosen anew)
        p <- (1 - lr weight_decay) p - lr (P^T M + g - P^T P g)

    P is chosen on the first step and on every multiple of ``update_proj_gap``: "svd" takes the
    gradient's leading singular vectors on its shorter side, "topk" its rows of largest norm on the
    longer side, "uniform" random ones. Vectors have ordinary momentum, and so have matrices while
    P is the identity (a rank as large as the side).

    When to use: where SGD with momentum would serve and its buffer is too large.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate.
        rank: dimension of the subspace.
        update_proj_gap: steps between choices of it.
        proj_type: "svd", "topk" or "uniform".
        seed: of the random choices.
        momentum: decay of the mean of gradients, in [0, 1).
        weight_decay: decoupled.

    State: for a matrix of a x b with a >= b ``exp_avg`` (M), a x rank, and ``basis``, b x rank
    ("svd"), or rank x b and ``rows``, rank whole numbers; for a vector ``exp_avg`` like it.

    Reference: Nguyen & Nguyen, "Lean and Mean Adaptive Optimization via Subset-Norm and
    Subspace-Momentum with Convergence Guarantees", ICML 2025, arXiv 2411.07120. Where the
    authors' code chooses P anew it lets the old momentum, taken in the old subspace, act for one
    step in the new one and then drops the gradient of that step; here the momentum starts again
    with that gradient. Their projection by a randomised Hadamard transform is left out: it is
    a random subspace as "uniform" is, and needs a fast transform, which torch has not, to pay.
    """
