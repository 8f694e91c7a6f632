"""Adafactor."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State
from thalweg.engine.rule import require


@dataclass(frozen=True)
class AdafactorRule(Rule):
    """The formula of `Adafactor`."""

    reads: ClassVar[Literal["element", "tensor"]] = "tensor"

    lr: float = 1e-2
    beta2_decay: float = -0.8
    eps: tuple[float | None, float] = (None, 1e-3)
    d: float = 1.0

    def check(self) -> None:
        """Refuse values outside the ranges that `torch.optim.Adafactor` allows."""
        super().check()
        require(self, "beta2_decay", self.beta2_decay <= 0, "at most 0")
        first, second = self.eps
        possible = (first is None or first >= 0) and second >= 0
        require(self, "eps", possible, "(None or at least 0, at least 0)")
        require(self, "d", self.d >= 1, "at least 1")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return a row and a column of mean squares, or the whole for vectors, zero."""
        if p.ndim < 2:
            return {"variance": torch.zeros_like(p)}
        return {
            "row_var": torch.zeros_like(p[..., :1]),
            "col_var": torch.zeros_like(p[..., :1, :]),
        }

    def scalars(self, t: int) -> dict[str, float]:
        """Return the decay of the squares, the relative step and the floors."""
        return {
            "keep": 1 - t**self.beta2_decay,
            "relative_step": min(self.lr, 1 / t**0.5),
            "eps1": -1.0 if self.eps[0] is None else self.eps[0],
            "eps2": self.eps[1],
            "d": self.d,
        }

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return 1, as `update` returns the whole step, and lr * weight_decay."""
        return 1.0, k.lr * k.weight_decay

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the clipped, rescaled step."""
        eps1 = k.eps1 if k.eps1 >= 0 else torch.finfo(p.dtype).eps
        step = _root_mean_square(p).clamp(min=k.eps2) * k.relative_step
        squares = g * g
        if p.ndim < 2:
            s.variance.lerp_(squares, 1 - k.keep)
            v = s.variance
        else:
            s.row_var.lerp_(squares.mean(-1, keepdim=True), 1 - k.keep)
            s.col_var.lerp_(squares.mean(-2, keepdim=True), 1 - k.keep)
            v = s.row_var * s.col_var / s.row_var.mean(-2, keepdim=True).clamp(min=eps1)
        u = g * v.clamp(min=eps1 * eps1).rsqrt()
        return u * (step / (_root_mean_square(u) / k.d).clamp(min=1.0))


def _root_mean_square(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x) / x.numel() ** 0.5


class Adafactor(
    RuleOptimizer,
    rule=AdafactorRule,
    slug="adafactor",
    reference="Shazeer & Stern 2018, arXiv 1804.04235",
    space={"lr": Log(1e-3, 3e-1), "weight_decay": Log(1e-5, 1e-1)},
):
    r"""Adafactor: adaptive steps whose second moment is kept as one row and one column.

    Over the last two axes of a tensor with at least two (a vector keeps all of ``v``), with
    ``b = 1 - t^beta2_decay``::

        r <- b r + (1 - b) mean_columns(g^2)
        c <- b c + (1 - b) mean_rows(g^2)
        v  = r c / max(mean(r), eps1),    u = g / sqrt(max(v, eps1^2))
        a  = max(eps2, rms(p)) min(lr, 1 / sqrt(t))
        p <- (1 - lr weight_decay) p - a u / max(1, rms(u) / d)

    Args:
        params: see `RuleOptimizer`.
        lr: the largest relative step.
        beta2_decay: exponent of the decay, at most 0.
        eps: eps1 (None: the dtype's machine epsilon) and eps2.
        d: clipping threshold for rms(u), at least 1.
        weight_decay: decoupled.

    State: ``row_var`` (..., n, 1) and ``col_var`` (..., 1, m) for shape (..., n, m), or
    ``variance`` like the parameter.

    Reference: Shazeer & Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost",
    ICML 2018, arXiv 1804.04235. This is the form of `torch.optim.Adafactor`: the paper adds eps1
    to g^2 where torch clamps, and has rms(p) of the undecayed p as here.
    """
