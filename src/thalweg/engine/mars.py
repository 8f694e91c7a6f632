"""Gradients corrected by how the last ones changed, and what is built on them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.engine.closure import Evaluations, zeros_where_absent
from thalweg.engine.initial_rate import InitialRate
from thalweg.engine.optimizer import RuleOptimizer
from thalweg.engine.rule import Numbers, Rule, State, require


@dataclass(frozen=True)
class MARSRule(InitialRate):
    """Base of the MARS rules, which take a mean of corrected gradients.

    Matrices (or all tensors, with ``optimize_1d``) are moved along `corrected_direction`; the
    others by AdamW with settings of their own.
    """

    lr: float = 3e-3
    betas: tuple[float, float] = (0.95, 0.99)
    eps: float = 1e-8
    gamma: float = 0.025
    amsgrad: bool = False
    exact: bool = False
    optimize_1d: bool = False
    lr_1d: float = 3e-3
    betas_1d: tuple[float, float] = (0.9, 0.95)
    weight_decay_1d: float = 0.1

    def check(self) -> None:
        """Refuse negative settings and betas outside [0, 1)."""
        super().check()
        for name in ("gamma", "lr_1d", "weight_decay_1d"):
            require(self, name, getattr(self, name) >= 0, "at least 0")
        require(self, "betas_1d", all(0 <= beta < 1 for beta in self.betas_1d), "each in [0, 1)")

    def corrects(self, p: Tensor) -> bool:
        """Return whether the tensor's gradient is corrected."""
        return self.optimize_1d or p.ndim == 2

    def keeps_squares(self, p: Tensor) -> bool:
        """Return whether the tensor has Adam's second moment."""
        return not self.corrects(p)

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the means, zero, and the gradient or the point before."""
        names = ["exp_avg"]
        if self.keeps_squares(p):
            names += ["exp_avg_sq", "max_exp_avg_sq"] if self.amsgrad else ["exp_avg_sq"]
        if self.corrects(p) and not self.exact:
            names.append("last_grad")
        state = {name: torch.zeros_like(p) for name in names}
        return state | ({"previous": p.detach().clone()} if self.exact else {})

    def formula(self, p: Tensor) -> type[Rule]:
        """Return AdamW's formula for what is not corrected."""
        return type(self) if self.corrects(p) else _AdamW

    def scalars(self, t: int) -> dict[str, float]:
        """Return the betas, eps, Adam's corrections and the strength of the gradient's."""
        beta1, beta2 = self.betas
        return {
            "beta1": beta1,
            "beta2": beta2,
            "eps": self.eps,
            "bias_correction1": 1 - beta1**t,
            "root_bias_correction2": (1 - beta2**t) ** 0.5,
            "correction": self.gamma * beta1 / (1 - beta1),
        }

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return lr and 0: weight decay is part of the direction."""
        return k.lr, 0.0

    def measure_each(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Mapping[str, Tensor]:
        """Return the squared norm of the corrected gradient."""
        del p
        c = self._corrected(g, s, k)
        return {"square": (c * c).sum()}

    def numbers_each(
        self, sums: Mapping[str, float], p: Tensor, s: State, k: Numbers
    ) -> dict[str, float]:
        """Return what brings the corrected gradient to a norm of 1 at most."""
        del p, s, k
        norm = sums["square"] ** 0.5
        return {"shrink": 1.0 if norm <= 1 else 1 / norm}

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the direction along the corrected gradients, with decay."""
        c = self._corrected(g, s, k) * k.shrink
        if self.exact:
            s.previous.copy_(p)
        else:
            s.last_grad.copy_(g)
        return self.corrected_direction(c, s, k) + p * k.weight_decay

    def corrected_direction(self, c: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the direction for a corrected gradient of norm 1 at most."""
        raise NotImplementedError(f"{type(self).__name__} has no corrected_direction")

    def adam(self, g: Tensor, s: State, k: Numbers) -> Tensor:
        """Return Adam's direction, with the maximum of the second moment if asked for."""
        m = s.exp_avg.lerp_(g, 1 - k.beta1)
        v = s.exp_avg_sq.mul_(k.beta2).add_(g * g, alpha=1 - k.beta2)
        if self.amsgrad:
            v = s.max_exp_avg_sq.copy_(torch.maximum(s.max_exp_avg_sq, v))
        root = v.sqrt() / k.root_bias_correction2 + k.eps
        return m / (root * k.bias_correction1)

    def _corrected(self, g: Tensor, s: State, k: Numbers) -> Tensor:
        before = s.previous_gradient if self.exact else s.last_grad
        return g + (g - before) * k.correction


@dataclass(frozen=True)
class _AdamW(MARSRule):
    """AdamW with the settings of tensors that are not corrected."""

    reads: ClassVar[Literal["element", "tensor"]] = "element"
    measure_each, numbers_each = Rule.measure_each, Rule.numbers_each

    def scalars(self, t: int) -> dict[str, float]:
        """Return AdamW's numbers."""
        own = replace(self, betas=self.betas_1d)
        return {**super(_AdamW, own).scalars(t), "decay_1d": self.weight_decay_1d}

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return the learning rate of these tensors, scheduled alike, and 0."""
        return self.lr_1d * self.relative_rate(k), 0.0

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return Adam's direction, with decay."""
        if self.exact:
            s.previous.copy_(p)
        return self.adam(g, s, k) + p * k.decay_1d


class MARSOptimizer(RuleOptimizer):
    """Runs a `MARSRule`; with ``exact`` it evaluates the closure at the last point as well."""

    @property
    def needs_closure(self) -> bool:
        """Whether `step` has to be given a closure."""
        return any(group.get("exact", False) for group in self.param_groups)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step; see `RuleOptimizer.step`.

        With ``exact`` the closure is called twice, with the parameters as they are and as they
        were before the last step, and the gradients in ``p.grad`` play no part.

        Raises:
            UsageError: ``exact`` without a closure; nothing has changed then.
        """
        if not self.needs_closure:
            return super().step(closure)
        if closure is None:
            raise UsageError(
                f"{type(self).__name__} with exact=True evaluates each batch at two points: pass "
                "step() a closure that returns the loss of the batch"
            )
        params = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        evaluations = Evaluations(params, closure, type(self).__name__)
        gradients = evaluations.gradient()[1]
        states = [self.state.get(p, {}) for p in params]
        with evaluations.at([s.get("previous", p) for s, p in zip(states, params, strict=True)]):
            found = zeros_where_absent(evaluations.gradient()[1], params)
        seen = self.seen(dict(zip(params, found, strict=True)))
        before = {
            p: seen[p] if "previous" in s else torch.zeros_like(p)
            for p, s in zip(params, states, strict=True)
        }
        self._advance(gradients, {"previous_gradient": before}, evaluations.first)
        return evaluations.first
