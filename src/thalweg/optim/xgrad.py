"""XGrad."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import ClosureOptimizer, Numbers, State, TwoMoments
from thalweg.engine.closure import Evaluations
from thalweg.engine.hyper_parameters import rule_from_group
from thalweg.engine.rule import require


@dataclass(frozen=True)
class XGradRule(TwoMoments):
    """The formula of `XGrad`."""

    weight_decay: float | None = None  # type: ignore[assignment]
    base: Literal["sgd", "adam", "adamw"] = "adamw"
    momentum: float = 0.9
    s: float = 1.0

    def check(self) -> None:
        """Refuse a momentum outside [0, 1)."""
        super().check()
        require(self, "momentum", 0 <= self.momentum < 1, "in [0, 1)")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the base's state: the momentum, or both moments, zero."""
        if self.base == "sgd":
            return {"momentum_buffer": torch.zeros_like(p)}
        return super().init(p)

    def scalars(self, t: int) -> dict[str, float]:
        """Return the numbers of all bases."""
        return {**super().scalars(t), "momentum": self.momentum}

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return the base's step, and lr * weight_decay for AdamW, else 0."""
        if self.base == "sgd":
            return k.lr, 0.0
        return k.lr / k.bias_correction1, k.lr * k.weight_decay if self.base == "adamw" else 0.0

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Move the state on and return the base's direction."""
        if self.base != "adamw":
            g = g + p * k.weight_decay
        if self.base == "sgd":
            s.momentum_buffer.mul_(k.momentum).add_(g)
        else:
            self.moments(g, s, k)
        return self.direction(s, k)

    def direction(self, s: State, k: Numbers) -> Tensor:
        """Return the direction that the state stands for."""
        if self.base == "sgd":
            return s.momentum_buffer
        return s.exp_avg / (s.exp_avg_sq.sqrt() / k.root_bias_correction2 + k.eps)


class XGrad(
    ClosureOptimizer,
    rule=XGradRule,
    slug="xgrad",
    reference="Guan et al. 2023, arXiv 2305.18240",
    space={"lr": Log(1e-4, 1e-1), "weight_decay": Log(1e-3, 1.0)},
):
    r"""XGrad: the gradient is taken where the last direction, once more, would lead.

    With the last direction d and its step of the base, SGD with momentum, Adam or AdamW::

        g = gradient at p - s step d        (at p in the first step)
        p <- base(p, g)

    The prediction leaves weight decay out. The loss that ``step`` returns is that at the
    predicted weights.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate.
        betas: decay of Adam's mean and mean square, each in [0, 1).
        eps: keeps Adam's quotient finite.
        base: "sgd", "adam" or "adamw".
        momentum: of SGD, in [0, 1).
        s: how many steps ahead the gradient is taken; 0 is the base itself.
        weight_decay: coupled (L2) for "sgd" and "adam", decoupled for "adamw"; None is the base's
            default in torch, 0.01 for "adamw" and 0 for the others.

    State: the base's: ``momentum_buffer``, or ``exp_avg`` and ``exp_avg_sq``, like the parameter.

    When to use: in place of its base, at the same price. It is Nesterov's look-ahead for any
    optimiser, and helps most where momentum overshoots.

    Reference: Guan et al., "XGrad: Boosting Gradient-Based Optimizers With Weight Prediction",
    2023, arXiv 2305.18240, and the authors' code, whose Adam ignores weight decay, and which
    leaves s to the caller.
    """

    penalised = False

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, whose base chooses the weight decay where nothing else does.

        Raises:
            UsageError: as for the class.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        if group["weight_decay"] is None:
            group["weight_decay"] = 0.01 if group["base"] == "adamw" else 0.0

    def _step(self, evaluations: Evaluations) -> None:
        points = [
            self._predicted(p, rule_from_group(group))
            for group in self.param_groups
            for p in group["params"]
            if p.requires_grad
        ]
        with evaluations.at(points):
            _, gradients = evaluations.gradient()
        self._advance(gradients)

    def _predicted(self, p: Tensor, rule: Any) -> Tensor:
        """Return where the last direction leads once more."""
        state = self.state_of(p)
        if state["step"] == 0:
            return p
        k = Numbers(lr=rule.lr, weight_decay=rule.weight_decay, **rule.scalars(state["step"]))
        step, _ = rule.step_and_decay(k)
        return p - rule.s * step * rule.direction(State.of(state), k)
