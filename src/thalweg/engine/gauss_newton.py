"""Rules that step by a Gauss-Newton matrix of the model's outputs."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from thalweg.engine.closure import Evaluations
from thalweg.engine.one_vector import VectorOptimizer, backtracked_along, loss_at
from thalweg.engine.rule import Rule, require
from thalweg.engine.second_order import Linearised


@dataclass(frozen=True)
class GaussNewtonBase(Rule):
    """What Gauss-Newton rules have in common; see `GaussNewtonOptimizer`."""

    lr: float = 1.0
    damping: float = 1.0
    line_search: bool = False
    adaptive_damping: bool = False
    damping_factors: tuple[float, float] = (1.5, 2 / 3)

    def check(self) -> None:
        """Refuse a negative damping and factors that do not lie around 1."""
        super().check()
        require(self, "damping", self.damping >= 0, "at least 0")
        worse, better = self.damping_factors
        require(self, "damping_factors", 0 < better <= 1 <= worse, "one above 1, one below")

    def shared(self) -> dict[str, float]:
        """Return the damping as it is now, and the rate that the last line search found."""
        return {"present_damping": self.damping, "rate": math.inf}


class GaussNewtonOptimizer(VectorOptimizer):
    """Base of rules that move by ``-(J^T Q J + (damping + weight_decay) I)^-1 gradient``.

    A subclass says in `_direction` how. Then, by choice: a line search backtracks (by 0.8, at
    most 14 times, from 1.5 times the last rate or lr if that is less) until the loss falls by a
    tenth of what the slope promises; and damping is multiplied by the first of
    ``damping_factors`` if the loss fell by less than a quarter of what the quadratic model says,
    by the second if by more than three quarters.
    """

    needs_outputs: ClassVar[bool] = True

    def _direction(
        self, point: Linearised, gradient: Tensor, damping: float, evaluations: Evaluations
    ) -> Tensor:
        """Return the step for lr = 1."""
        raise NotImplementedError(f"{type(self).__name__} has no _direction")

    def _moved(self, evaluations: Evaluations, x: Tensor) -> Tensor:
        point, decay = Linearised(evaluations), self.common("weight_decay")
        loss, g = point.penalised(x, decay)
        damping = self.param_groups[0]["present_damping"]
        d = self._direction(point, g, damping + decay, evaluations)
        rate, after = self.common("lr"), math.nan
        if self.common("line_search"):
            longest = min(1.5 * self.param_groups[0]["rate"], rate)
            rate, after = backtracked_along(
                evaluations, x, loss, g, d, rate=longest, shrink=0.8, decrease=0.1, trials=15
            )
            self._set(rate=rate)
        step = rate * d
        if self.common("adaptive_damping"):
            if math.isnan(after):
                after = loss_at(evaluations, x + step)
            model = g @ step + 0.5 * step @ (point.product(step) + decay * step)
            self._set(present_damping=damping * self._factor(after - loss, float(model)))
        return x + step

    def _factor(self, change: float, model: float) -> float:
        """Return what damping is multiplied by, given the loss's change and the model's."""
        worse, better = self.common("damping_factors")
        if change > 0.25 * model:
            return worse
        return better if change < 0.75 * model else 1.0
