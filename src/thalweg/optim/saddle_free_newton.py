"""Saddle-free Newton."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Evaluations, Rule
from thalweg.engine.closure import unflatten
from thalweg.engine.one_vector import VectorOptimizer, blank, loss_at, vector
from thalweg.engine.rule import require
from thalweg.engine.second_order import (
    Probes,
    eigenpairs,
    hessian,
    hessian_product,
    krylov,
    with_graph,
)

# Random vectors beyond the rank: with them the leading eigenpairs are nearly exact.
_EXTRA = 10


@dataclass(frozen=True)
class SaddleFreeNewtonRule(Rule):
    """The settings of `SaddleFreeNewton`."""

    lr: float = 1.0
    damping: float = 0.01
    krylov_dim: int = 0
    rank: int = 0
    adaptive_damping: bool = False
    seed: int = 0

    def check(self) -> None:
        """Refuse a negative damping, dimension or rank, and two ways of saving at once."""
        super().check()
        require(self, "damping", self.damping >= 0, "at least 0")
        require(self, "krylov_dim", self.krylov_dim >= 0, "at least 0")
        require(self, "rank", self.rank >= 0, "at least 0")
        if self.rank:
            require(self, "krylov_dim", self.krylov_dim == 0, "0 with a rank: choose one")
            require(self, "damping", self.damping > 0, "positive with a rank")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the previous step, zero, if it helps to span the subspace."""
        return {"previous_step": blank(p)} if self.krylov_dim else {}

    def shared(self) -> dict[str, float]:
        """Return the damping as it is now."""
        return {"present_damping": self.damping}


class SaddleFreeNewton(
    VectorOptimizer,
    rule=SaddleFreeNewtonRule,
    slug="saddle-free-newton",
    reference="Dauphin et al. 2014, arXiv 1406.2572",
    space={"lr": Log(3e-2, 1.0), "damping": Log(1e-4, 1.0)},
):
    """Saddle-free Newton: Newton's step with the absolute values of the Hessian's eigenvalues.

    With g and ``H = U diag(e) U^T`` the gradient and the Hessian of the loss and its penalty::

        p <- p - lr U (|e| + damping)^-1 U^T g

    Along negative curvature this goes down, where Newton's method goes up to the saddle. With
    ``krylov_dim`` k, the same is done in the space that g, H g, ..., H^(k-1) g and the step before
    span, with H restricted to it. With ``rank`` r, the r eigenvalues of largest size count, and all
    others as 0: with U_r and e_r of these, by Woodbury's identity::

        p <- p - lr / damping (g - U_r |e_r| / (|e_r| + damping) U_r^T g)

    They are found from r + 10 random vectors: with Q an orthonormal basis of H times these, as
    those of Q^T H Q. That is exact if no more than r + 10 eigenvalues differ from 0, or there are
    no more parameters.

    Args:
        params: see `RuleOptimizer`.
        lr: step length.
        damping: added to the absolute eigenvalues, at least 0.
        krylov_dim: 0 for the whole Hessian, else the number of Krylov vectors.
        rank: 0 for the whole Hessian, else the number of eigenpairs; not with ``krylov_dim``, and
            with a positive damping.
        adaptive_damping: after each step, damping becomes a tenth (1e-5 at least) if the loss
            fell by more than 0.3 of what the model says; if the loss rose, the step is taken back
            and damping becomes tenfold (10 at most).
        seed: of the random vectors, which depend on it and on the step alone.
        weight_decay: of the penalty ``weight_decay / 2 |p|^2``.

    State: ``previous_step``, one tensor like the parameter, with a Krylov space;
    ``present_damping``, which belongs to the run. A step takes 2 d^2 numbers and d Hessian
    products for d parameters, or (2 k + 2) d numbers and k + 1 products, or with a rank about
    4 (r + 10) d numbers and 2 (r + 10) products.

    When to use: smooth problems with saddles and plateaus on which gradient descent stays for
    long, on all data or large batches; up to a few thousand parameters with the whole Hessian.

    Reference: Dauphin et al., "Identifying and attacking the saddle point problem in
    high-dimensional non-convex optimization", NeurIPS 2014, arXiv 1406.2572. The authors search
    for the best damping in every step; the rule for it here is that of third-party code, with the
    model's decrease taken along the step. The low-rank form is that of O'Leary-Roseberry's code,
    with ten more random vectors than it has at its default.
    """

    needs_graph: ClassVar[bool] = True

    def _moved(self, evaluations: Evaluations, x: Tensor) -> Tensor:
        loss, gradients, g = with_graph(evaluations)
        damping = self.param_groups[0]["present_damping"]
        if dim := self.common("krylov_dim"):
            d = self._in_subspace(evaluations, gradients, g, damping, dim)
        elif rank := self.common("rank"):
            d = self._by_leading(evaluations, gradients, g, damping, rank)
        else:
            d = _step(hessian(gradients, evaluations.params), g, damping)
        step = self.common("lr") * d
        if self.common("adaptive_damping"):
            # Along its own step d the model falls by lr - lr^2 / 2 of the slope.
            share = self.common("lr") - self.common("lr") ** 2 / 2
            fall = loss - loss_at(evaluations, x + step)
            if fall > 0.3 * share * -torch.dot(g, d).item():
                self._set(present_damping=max(0.1 * damping, 1e-5))
            elif not fall >= 0 and not math.isnan(loss):
                self._set(present_damping=min(10 * damping, 10.0))
                return x
        if dim:
            self._remember("previous_step", step, evaluations)
        return x + step

    def _in_subspace(
        self,
        evaluations: Evaluations,
        gradients: list[Tensor],
        g: Tensor,
        damping: float,
        dim: int,
    ) -> Tensor:
        product = _product(evaluations, gradients)
        basis, image = krylov(product, g, dim, self._remembered("previous_step", evaluations))
        inner = basis.mT @ image
        return basis @ _step((inner + inner.mT) / 2, basis.mT @ g, damping)

    def _by_leading(
        self,
        evaluations: Evaluations,
        gradients: list[Tensor],
        g: Tensor,
        damping: float,
        rank: int,
    ) -> Tensor:
        product = _product(evaluations, gradients)
        step = self.state_of(evaluations.params[0])["step"]
        probes = Probes(self, self.common("seed"), "saddle-free-newton", step)
        count = min(rank + _EXTRA, len(g))
        image = [product(vector(probes.normals(i))) for i in range(count)]
        basis = torch.linalg.qr(torch.stack(image, 1))[0]
        inner = basis.mT @ torch.stack([product(v) for v in basis.unbind(1)], 1)
        values, vectors = eigenpairs((inner + inner.mT) / 2)
        leading = values.abs().argsort(descending=True)[:rank]
        sizes, basis = values[leading].abs(), basis @ vectors[:, leading]
        return (basis @ (sizes / (sizes + damping) * (basis.mT @ g)) - g) / damping


def _product(evaluations: Evaluations, gradients: list[Tensor]) -> Callable[[Tensor], Tensor]:
    """Return the product of the Hessian with a vector."""
    params = evaluations.params
    return lambda v: vector(hessian_product(gradients, params, unflatten(v, params)))


def _step(matrix: Tensor, g: Tensor, damping: float) -> Tensor:
    values, basis = eigenpairs(matrix)
    return -basis @ ((basis.mT @ g) / (values.abs() + damping))
