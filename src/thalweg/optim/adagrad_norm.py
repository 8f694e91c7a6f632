"""AdaGrad-Norm."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State
from thalweg.engine.distributed import gathered
from thalweg.engine.orthogonal import at_least_single
from thalweg.engine.rule import require


@dataclass(frozen=True)
class AdaGradNormRule(Rule):
    """The formula of `AdaGradNorm`."""

    lr: float = 1.0
    initial_accumulator_value: float = 1e-2
    scope: Literal["global", "tensor", "row"] = "global"

    def check(self) -> None:
        """Refuse a start that is not positive."""
        super().check()
        start = self.initial_accumulator_value
        require(self, "initial_accumulator_value", start > 0, "positive")

    def formula(self, p: Tensor) -> type[Rule]:
        """Return another formula where a tensor, or each of its rows, has a sum of its own."""
        if self.scope == "row" and p.ndim > 1:
            return _OfRows
        return type(self) if self.scope == "global" else _OfTensors

    def init(self, p: Tensor) -> dict[str, Any]:
        """Return the sum of squared norms, of the tensor or of each row, unless it is shared."""
        if self.scope == "global":
            return {}
        start = self.initial_accumulator_value
        if self.scope == "row" and p.ndim > 1:
            shape, dtype = (len(p), *[1] * (p.ndim - 1)), at_least_single(p)
            return {"sum": torch.full(shape, start, dtype=dtype, device=p.device)}
        return {"sum": start}

    def shared(self) -> dict[str, float]:
        """Return the sum of squared norms over all tensors."""
        return {"total": self.initial_accumulator_value}

    def measure(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Mapping[str, Tensor]:
        """Return the squared norm of the gradient."""
        del s
        g = g + p * k.weight_decay
        return {"square": (g * g).sum()}

    def advance(self, shared: MutableMapping[str, float], measured: Mapping[str, float]) -> None:
        """Add the squared norm."""
        shared["total"] += measured["square"]

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return lr over the root of the sum, and 0: decay joins the gradient."""
        return k.lr / k.total**0.5, 0.0

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the gradient with the decay."""
        del s
        return g + p * k.weight_decay


@dataclass(frozen=True)
class _OfTensors(AdaGradNormRule):
    """AdaGrad-Norm with a sum for each tensor."""

    shared, measure, advance = Rule.shared, Rule.measure, Rule.advance
    measure_each = AdaGradNormRule.measure

    def numbers_each(
        self, sums: Mapping[str, float], p: Tensor, s: State, k: Numbers
    ) -> dict[str, float]:
        """Add the squared norm and return the root of the sum."""
        del p, k
        s.sum += sums["square"]
        return {"root": s.sum**0.5}

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return lr, and 0: decay joins the gradient."""
        return k.lr, 0.0

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the gradient with the decay, over the root of the sum."""
        del s
        return (g + p * k.weight_decay) / k.root


@dataclass(frozen=True)
class _OfRows(_OfTensors):
    """AdaGrad-Norm with a sum for each row."""

    reads: ClassVar[Literal["element", "tensor"]] = "tensor"
    measure_each, numbers_each = Rule.measure_each, Rule.numbers_each

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the gradient with the decay, over the roots of the sums of its rows."""
        g = gathered(g + p * k.weight_decay)
        square = g.to(s.sum.dtype).square()
        s.sum.add_(square.sum(tuple(range(1, g.ndim)), keepdim=True))
        return (g / s.sum.sqrt()).to(g.dtype)


class AdaGradNorm(
    RuleOptimizer,
    rule=AdaGradNormRule,
    slug="adagrad-norm",
    name="AdaGrad-Norm",
    reference="Ward, Wu & Bottou 2018, arXiv 1806.01811",
    space={"lr": Log(3e-2, 10.0), "weight_decay": Log(1e-6, 1e-2)},
):
    r"""AdaGrad-Norm: SGD with one step size, the inverse root of all squared gradient norms.

    ::

        b^2 <- b^2 + |g|^2
        p   <- p - lr / b g

    with the norm over all tensors, or with ``scope`` over each tensor, or over each row (index
    of the first axis; vectors and scalars count as one row). No step is longer than lr, and
    without knowing the smoothness of the loss the rate is that of gradient descent with the best
    constant step, up to a factor that lr alone decides.

    When to use: SGD where the scale of the gradients is unknown; lr then has the unit of the
    parameters' distance to go.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate, the longest possible step.
        initial_accumulator_value: b^2 at first, positive.
        scope: "global", "tensor" or "row".
        weight_decay: coupled (L2).

    State: in each group the number ``total`` (b^2); with scope "tensor" one number ``sum`` for
    each tensor, with "row" one for each row, in float32 at least.

    Reference: Ward, Wu & Bottou, "AdaGrad Stepsizes: Sharp Convergence over Nonconvex
    Landscapes", ICML 2019, arXiv 1806.01811; the default start is the authors' code's, whose
    rule is another one: a sum for each row of a matrix, and for a vector one that depends on the
    matrix before it.
    """
