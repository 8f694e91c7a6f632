"""SOAP."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State
from thalweg.engine.distributed import gathered
from thalweg.engine.linear_algebra import merge_axes, symmetric_product
from thalweg.engine.rule import require
from thalweg.engine.stacks import in_stacks, stack, stacked


@dataclass(frozen=True)
class SOAPRule(Rule):
    """The formula of `SOAP`."""

    reads: ClassVar[Literal["element", "tensor"]] = "tensor"

    lr: float = 3e-3
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.95, 0.95)
    shampoo_beta: float = -1.0
    eps: float = 1e-8
    precondition_frequency: int = 10
    max_precond_dim: int = 10000
    merge_dims: bool = False
    precondition_1d: bool = False
    normalize_grads: bool = False
    correct_bias: bool = True

    def check(self) -> None:
        """Refuse a frequency below 1 and a shampoo_beta that is neither -1 nor in [0, 1)."""
        super().check()
        possible = self.shampoo_beta == -1 or 0 <= self.shampoo_beta < 1
        require(self, "shampoo_beta", possible, "-1 (for beta2) or in [0, 1)")
        require(self, "precondition_frequency", self.precondition_frequency >= 1, "at least 1")
        require(self, "max_precond_dim", self.max_precond_dim >= 1, "at least 1")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return both moments of the rotated gradient, the factors and their bases."""
        shape = self._shape(p)
        whole = torch.empty(shape, dtype=p.dtype, device=p.device)
        state = {"exp_avg": torch.zeros_like(whole), "exp_avg_sq": torch.zeros_like(whole)}
        for axis in self._axes(shape):
            square = torch.zeros(shape[axis], shape[axis], dtype=_worked(p), device=p.device)
            state[f"factor_{axis}"] = square
            state[f"basis_{axis}"] = torch.zeros_like(square)
        return state

    def scalars(self, t: int) -> dict[str, float]:
        """Return the betas, eps and the bias corrections, which count from the second call."""
        beta1, beta2 = self.betas
        real = max(t - 1, 1)
        corrected = (1 - beta2**real) ** 0.5 / (1 - beta1**real) if self.correct_bias else 1.0
        return {
            "beta1": beta1,
            "beta2": beta2,
            "shampoo_beta": beta2 if self.shampoo_beta == -1 else self.shampoo_beta,
            "eps": self.eps,
            "corrected": corrected,
            "calls": t,
        }

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return lr and lr * weight_decay, or nothing on the first call, which only looks."""
        if k.calls == 1:
            return 0.0, 0.0
        return k.lr, k.lr * k.weight_decay

    def update_all(
        self, g: Sequence[Tensor], p: Sequence[Tensor], s: Sequence[State], k: Numbers
    ) -> Iterator[Tensor]:
        """Return Adam's steps in the eigenbases of the factors, turned back.

        Small tensors of one shape are treated together.
        """
        return in_stacks(self._together, g, p, s, k)

    def _together(
        self, g: Sequence[Tensor], p: Sequence[Tensor], s: Sequence[State], k: Numbers
    ) -> Tensor:
        shape = s[0].exp_avg.shape
        axes = self._axes(shape)
        names = [f"{kind}_{axis}" for axis in axes for kind in ("factor", "basis")]
        with stacked(s, ["exp_avg", "exp_avg_sq", *names]) as state:
            d = self._direction(stack([gathered(x).reshape(shape) for x in g]), state, k, axes)
        return d.reshape(len(g), *p[0].shape)

    def _direction(self, g: Tensor, s: State, k: Numbers, axes: list[int]) -> Tensor:
        """Return the directions for a stack of gradients."""
        if g.numel() == 0:
            return torch.zeros_like(g)
        if k.calls == 1:
            _gather_factors(g, s, k, axes)
            for axis in axes:
                basis = torch.linalg.eigh(_factor(s, axis))[1].flip(-1)
                setattr(s, f"basis_{axis}", basis)
            return torch.zeros_like(g)
        rotated = _turned(g, {axis: [_basis(s, axis)] for axis in axes})
        m = s.exp_avg.lerp_(rotated, 1 - k.beta1)
        v = s.exp_avg_sq.mul_(k.beta2).addcmul_(rotated, rotated, value=1 - k.beta2)
        root = v.sqrt().add_(k.eps)
        d = torch.div(m, root, out=root)
        d = _turned(d, {axis: [_basis(s, axis).mT] for axis in axes})
        if self.normalize_grads:
            means = d.square().reshape(len(d), -1).mean(1).sqrt()
            d = d / (means.reshape(-1, *[1] * (d.ndim - 1)) + 1e-30)
        _gather_factors(g, s, k, axes)
        if (k.calls - 1) % self.precondition_frequency == 0:
            _refresh(s, axes)
        # The paper's code decays after the step: (1 - decay) (p - lr d).
        return d.mul_(k.corrected * (1 - k.lr * k.weight_decay))

    def _shape(self, p: Tensor) -> tuple[int, ...]:
        return merge_axes(tuple(p.shape), self.max_precond_dim) if self.merge_dims else p.shape

    def _axes(self, shape: tuple[int, ...]) -> list[int]:
        """Return the axes that are rotated."""
        if len(shape) == 1 and not self.precondition_1d:
            return []
        return [axis for axis, size in enumerate(shape) if size <= self.max_precond_dim]


def _worked(p: Tensor) -> torch.dtype:
    return torch.float64 if p.dtype == torch.float64 else torch.float32


def _factor(s: State, axis: int) -> Tensor:
    return getattr(s, f"factor_{axis}")


def _basis(s: State, axis: int) -> Tensor:
    return getattr(s, f"basis_{axis}")


def _gather_factors(g: Tensor, s: State, k: Numbers, axes: list[int]) -> None:
    for axis in axes:
        factor = _factor(s, axis)
        flat = g.to(factor.dtype).movedim(axis + 1, 1).reshape(len(g), g.size(axis + 1), -1)
        gathered_too = symmetric_product(
            flat, flat.mT, factor, beta=k.shampoo_beta, alpha=1 - k.shampoo_beta
        )
        setattr(s, f"factor_{axis}", gathered_too)


def _turned(x: Tensor, matrices: Mapping[int, Sequence[Tensor]]) -> Tensor:
    """Return a stack of tensors with some axes multiplied by stacks of matrices."""
    dtype, shape = x.dtype, x.shape
    for axis in range(x.ndim - 1):
        # Each first axis becomes the last, so that in the end all are back in order.
        x = x.reshape(len(x), shape[axis + 1], -1).mT
        for matrix in matrices.get(axis, ()):
            x = x.to(matrix.dtype) @ matrix
    return x.to(dtype).reshape(shape)


def _refresh(s: State, axes: list[int]) -> None:
    """Take one step of orthogonal iteration, and turn the mean into the new basis.

    The mean square is not turned; its entries follow the columns they belong to.
    """
    carried: dict[int, list[Tensor]] = {}
    for axis in axes:
        basis = _basis(s, axis)
        product = _factor(s, axis) @ basis
        order = (basis * product).sum(-2).argsort(descending=True)
        along = [len(order), *[1] * (s.exp_avg_sq.ndim - 1)]
        along[axis + 1] = -1
        s.exp_avg_sq.copy_(s.exp_avg_sq.take_along_dim(order.reshape(along), axis + 1))
        new = torch.linalg.qr(product.take_along_dim(order[:, None], -1))[0]
        # Both ways give the same; the product of the bases is the cheaper one for a short axis.
        short = basis[0].numel() <= s.exp_avg[0].numel()
        carried[axis] = [basis.mT @ new] if short else [basis.mT, new]
        setattr(s, f"basis_{axis}", new)
    s.exp_avg.copy_(_turned(s.exp_avg, carried))


class SOAP(
    RuleOptimizer,
    rule=SOAPRule,
    slug="soap",
    reference="Vyas et al. 2025, arXiv 2409.11321",
    space={"lr": Log(3e-4, 1e-1), "weight_decay": Log(1e-3, 1.0)},
):
    r"""SOAP: Adam in the eigenbasis of Shampoo's statistics.

    For each axis i of a tensor with at least two, with G_i the gradient flattened along it::

        L_i <- shampoo_beta L_i + (1 - shampoo_beta) G_i G_i^T,   Q_i eigenvectors of L_i
        r    = g turned by Q_i^T along every axis
        m <- beta1 m + (1 - beta1) r,    v <- beta2 v + (1 - beta2) r^2
        p <- (1 - lr weight_decay) (p - lr c m / (sqrt(v) + eps) turned back by Q_i)

    with ``c = sqrt(1 - beta2^k) / (1 - beta1^k)``. The first call only starts L and Q and leaves
    p alone; k counts the later ones. Every ``precondition_frequency`` of these, Q takes a step of
    orthogonal iteration (columns sorted by their Rayleigh quotients, then QR), m is carried into
    the new basis and v is not.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate.
        betas: decay of m and v, each in [0, 1).
        shampoo_beta: decay of L, -1 for beta2.
        eps: added to the root.
        precondition_frequency: steps between refreshes of Q.
        max_precond_dim: longer axes are not turned.
        merge_dims: first merge neighbouring axes while their product stays within
            max_precond_dim.
        precondition_1d: turn vectors too.
        normalize_grads: divide the turned-back step by its root mean square.
        correct_bias: multiply by c.
        weight_decay: decoupled, after the step.

    State: ``exp_avg`` (m) and ``exp_avg_sq`` (v), both in the turned space, and ``factor_i`` (L)
    and ``basis_i`` (Q), n x n for an axis of n, float32 (float64 for float64 parameters).

    Reference: Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam", ICLR 2025,
    arXiv 2409.11321; the authors' code, which skips the first step and refreshes by QR.
    """
