"""Tiger."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State, sign
from thalweg.engine.rule import require


@dataclass(frozen=True)
class TigerRule(Rule):
    """The formula of `Tiger`."""

    beta: float = 0.965
    rowwise: bool = False
    weight_decay: float = 0.01

    def check(self) -> None:
        """Refuse a decay outside [0, 1)."""
        super().check()
        require(self, "beta", 0 <= self.beta < 1, "in [0, 1)")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the mean gradient, zero."""
        return {"exp_avg": torch.zeros_like(p)}

    def scalars(self, t: int) -> dict[str, float]:
        """Return beta."""
        del t
        return {"beta": self.beta}

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return lr and 0: weight decay is scaled with the direction."""
        return k.lr, 0.0

    def formula(self, p: Tensor) -> type[Rule]:
        """Return another formula where each row has a size of its own."""
        return _RowwiseTiger if self.rowwise and p.ndim > 1 else type(self)

    def measure_each(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Mapping[str, Tensor]:
        """Return the squared norm of the tensor."""
        del g, s, k
        return {"square": (p * p).sum()}

    def numbers_each(
        self, sums: Mapping[str, float], p: Tensor, s: State, k: Numbers
    ) -> dict[str, float]:
        """Return a matrix's size and what decays it, for others a half and nothing."""
        del s
        if p.ndim < 2:
            return {"size": 0.5, "pull": 0.0}
        return {"size": (sums["square"] / max(p.numel(), 1)) ** 0.5, "pull": k.weight_decay}

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the mean's sign and the decay, scaled by the size of the tensor."""
        return (sign(s.exp_avg.lerp_(g, 1 - k.beta)) + p * k.pull) * k.size


@dataclass(frozen=True)
class _RowwiseTiger(TigerRule):
    """Tiger with a size for each row of a matrix."""

    reads: ClassVar[Literal["element", "tensor"]] = "tensor"
    measure_each, numbers_each = Rule.measure_each, Rule.numbers_each

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the mean's sign and the decay, scaled by the size of the row."""
        size = p.square().mean(-1, keepdim=True).sqrt()
        return (sign(s.exp_avg.lerp_(g, 1 - k.beta)) + p * k.weight_decay) * size


class Tiger(
    RuleOptimizer,
    rule=TigerRule,
    slug="tiger",
    reference="Su 2023",
    space={"lr": Log(1e-4, 3e-2), "weight_decay": Log(1e-3, 1.0)},
):
    r"""Tiger: the sign of the mean gradient, in steps relative to the size of each matrix.

    ::

        m <- beta m + (1 - beta) g
        p <- p - lr rms(p) (sign(m) + weight_decay p)     for matrices
        p <- p - lr / 2 sign(m)                           for vectors and numbers

    with rms the root mean square over the tensor, or over each row (``rowwise``, for embeddings).
    A matrix of zeros stays one.

    When to use: language models of little memory: one state tensor, and a rate that keeps its
    meaning across layers. Give embeddings a parameter group with ``rowwise=True``.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate, relative to the entries of a matrix.
        beta: decay of the mean, in [0, 1).
        rowwise: take the size of every row apart.
        weight_decay: decoupled, for matrices; relative to their size.

    State: ``exp_avg`` (m), a tensor like the parameter.

    Reference: Su, "Tiger: A Tight-fisted Optimizer" (2023), github.com/bojone/tiger. The author's
    code tells biases, scales and embeddings by name where shape and parameter groups do here, and
    shrinks weights on NaN gradients, which are passed on here.
    """
