"""Adafactor."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State
from thalweg.engine.factored import average_squares_, divided_by_root
from thalweg.engine.rule import require
from thalweg.engine.stacks import in_stacks, stack, stacked


@dataclass(frozen=True)
class AdafactorRule(Rule):
    """The formula of `Adafactor`."""

    reads: ClassVar[Literal["element", "tensor"]] = "tensor"

    lr: float = 1e-2
    beta2_decay: float = -0.8
    eps: tuple[float | None, float] = (None, 1e-3)
    d: float = 1.0
    form: Literal["torch", "paper"] = "torch"
    beta1: float = 0.0

    def check(self) -> None:
        """Refuse values outside the ranges that `torch.optim.Adafactor` allows."""
        super().check()
        require(self, "beta2_decay", self.beta2_decay <= 0, "at most 0")
        first, second = self.eps
        possible = (first is None or first >= 0) and second >= 0
        require(self, "eps", possible, "(None or at least 0, at least 0)")
        require(self, "d", self.d >= 1, "at least 1")
        require(self, "beta1", 0 <= self.beta1 < 1, "in [0, 1)")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return a row and a column of mean squares, or the whole for vectors; a mean; all zero."""
        mean = {"exp_avg": torch.zeros_like(p)} if self.beta1 > 0 else {}
        if p.ndim < 2:
            return {"variance": torch.zeros_like(p), **mean}
        return {
            **mean,
            "row_var": torch.zeros_like(p[..., :1]),
            "col_var": torch.zeros_like(p[..., :1, :]),
        }

    def scalars(self, t: int) -> dict[str, float]:
        """Return the decays, the relative step and the floors."""
        eps1 = -1.0 if self.eps[0] is None else self.eps[0]
        return {
            "keep": 1 - t**self.beta2_decay,
            "beta1": self.beta1,
            "relative_step": min(self.lr, 1 / t**0.5),
            "eps1": eps1,
            "eps2": self.eps[1],
            "d": self.d,
        }

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return 1, as `update` returns the whole step, and lr * weight_decay."""
        return 1.0, k.lr * k.weight_decay

    def update_all(
        self, g: Sequence[Tensor], p: Sequence[Tensor], s: Sequence[State], k: Numbers
    ) -> Iterator[Tensor]:
        """Return the clipped, rescaled steps, or the means of all.

        Small vectors of one length are treated together.
        """
        steps = in_stacks(self._together, g, p, s, k)
        return (_averaged(step, one, k) for step, one in zip(steps, s, strict=True))

    def _together(
        self, g: Sequence[Tensor], p: Sequence[Tensor], s: Sequence[State], k: Numbers
    ) -> Tensor | list[Tensor]:
        limits = torch.finfo(p[0].dtype)
        own = max(1e-30, limits.tiny) if self.form == "paper" else limits.eps
        eps1 = k.eps1 if k.eps1 >= 0 else own
        added, least = (eps1, 0.0) if self.form == "paper" else (0.0, eps1)
        if p[0].ndim >= 2:
            return [_of_matrices(*one, k, added, least) for one in zip(g, p, s, strict=True)]
        x = stack(g)
        with stacked(s, ["variance"]) as state:
            v = state.variance.lerp_(x * x + added, 1 - k.keep)
        u = x * v.clamp(min=least * least).rsqrt()
        lengths = _length(_norms(stack(p)), _norms(u), p[0].numel(), k)
        return u * lengths.reshape(-1, *[1] * p[0].ndim)


def _averaged(step: Tensor, s: State, k: Numbers) -> Tensor:
    """Return the step, or the mean of all steps where there is to be one."""
    return s.exp_avg.lerp_(step, 1 - k.beta1) if hasattr(s, "exp_avg") else step


def _of_matrices(g: Tensor, p: Tensor, s: State, k: Numbers, added: float, least: float) -> Tensor:
    average_squares_(s.row_var, s.col_var, g, 1 - k.keep, added)
    u, norm = divided_by_root(g, s.row_var, s.col_var, least, least * least)
    return u.mul_(_length(torch.linalg.vector_norm(p), norm, p.numel(), k))


def _norms(stack: Tensor) -> Tensor:
    return torch.linalg.vector_norm(stack.reshape(len(stack), stack[0].numel()), dim=1)


def _length(norm_of_p: Tensor, norm_of_u: Tensor, entries: int, k: Numbers) -> Tensor:
    """Return what u is multiplied by."""
    root = entries**0.5
    step = (norm_of_p / root).clamp(min=k.eps2) * k.relative_step
    return step / (norm_of_u / root / k.d).clamp(min=1.0)


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

    The paper's form has ``g^2 + eps1`` in place of ``g^2`` and no maxima with eps1. With ``beta1``
    the mean ``m <- beta1 m + (1 - beta1) a u / max(1, rms(u) / d)`` takes the place of the step.

    Args:
        params: see `RuleOptimizer`.
        lr: the largest relative step, 1e-2 in the paper.
        beta2_decay: exponent of the decay, at most 0.
        eps: eps1 (None: the dtype's machine epsilon, or in the paper's form 1e-30, in float16 its
            smallest normal number) and eps2.
        d: clipping threshold for rms(u), at least 1.
        form: "torch", or "paper" for the authors' program.
        beta1: decay of the mean of steps, in [0, 1); 0 for none.
        weight_decay: decoupled.

    State: ``row_var`` (..., n, 1) and ``col_var`` (..., 1, m) for shape (..., n, m), or
    ``variance`` like the parameter; with beta1 also ``exp_avg`` (m), like the parameter.

    Reference: Shazeer & Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost",
    ICML 2018, arXiv 1804.04235. The default is the form of `torch.optim.Adafactor`: the paper, and
    the authors' program in tensor2tensor, add eps1 to g^2 where torch clamps, and have rms(p) of
    the undecayed p as here. The program has beta1 too, torch not, and neither paper nor program
    has weight decay.
    """
