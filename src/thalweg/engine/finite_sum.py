"""Rules for sums of many terms, which correct a batch's gradient by the whole sum's."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from thalweg.core.seeds import generator
from thalweg.engine.closure import Closure, ClosureOptimizer, Evaluations, zeros_where_absent
from thalweg.engine.rule import Numbers, Rule, State, require

Tensors = list[Tensor]


class FiniteSumOptimizer(ClosureOptimizer):
    """Base of rules for ``F = (1/n) sum_i f_i`` that need the gradient of F now and then.

    The user provides ``full_closure``, which computes F, or ``components``, a list of closures
    that compute the f_i. ``step(closure)`` takes the loss of a batch; with components, ``step()``
    alone draws one of them by the rule's ``seed`` and the step count. Where a batch does not
    reach a parameter, its gradient is zero.
    """

    penalised = False
    provisions: ClassVar[Mapping[str, str]] = {
        "full_closure": "the loss over all data: a closure",
        "components": "the terms whose mean is the loss over all data: a list of closures",
    }

    def full_gradient(self, params: Tensors) -> Tensors:
        """Return the gradient of F.

        Raises:
            UsageError: neither F nor its terms were provided.
        """
        if "components" not in self._provided:
            return self.gradient_of(self.provided("full_closure"), params)
        closures = self.provided("components")
        total = [torch.zeros_like(p) for p in params]
        for closure in closures:
            for x, g in zip(total, self.gradient_of(closure, params), strict=True):
                x.add_(g, alpha=1 / len(closures))
        return total

    def gradient_of(self, closure: Closure, params: Tensors) -> Tensors:
        """Return the gradient of a closure's loss."""
        return zeros_where_absent(self.evaluations(closure).gradient()[1], params)

    def drawn(self) -> int:
        """Return the index of the term that the next step draws."""
        steps = max((state["step"] for state in self.state.values()), default=0)
        random = generator(self.common("seed"), "term", steps)
        return int(torch.randint(len(self.provided("components")), (), generator=random))

    def _own_closure(self) -> Closure | None:
        if "components" not in self._provided:
            return None
        return self.provided("components")[self.drawn()]

    def _training_groups(self) -> list[dict[str, Any]]:
        """Return the groups that have parameters to train."""
        return [
            group for group in self.param_groups if any(p.requires_grad for p in group["params"])
        ]


@dataclass(frozen=True)
class RecursiveGradientRule(Rule):
    """Base of rules that carry the gradient's estimate on from step to step.

    From the full gradient on, ``v <- v + g(x) - g(x_before)``, both of the same batch; anew after
    ``inner_steps`` steps. Weight decay is coupled: the direction is ``v + weight_decay p``.
    """

    lr: float = 1e-2
    inner_steps: int = 100
    seed: int = 0

    def check(self) -> None:
        """Refuse inner loops without a step."""
        super().check()
        require(self, "inner_steps", self.inner_steps >= 1, "at least 1")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the estimate v, zero, and the point before."""
        return {"estimate": torch.zeros_like(p), "previous": p.detach().clone()}

    def shared(self) -> dict[str, float]:
        """Return the place in the inner loop, and the squared norm of the direction."""
        return {"inner_step": 0, "norm_sq": 0.0}

    def measure(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> dict[str, Tensor]:
        """Return the squared norm of the direction to come."""
        d = s.estimate + (g - s.previous_gradient) + p * k.weight_decay
        return {"norm_sq": (d * d).sum()}

    def advance(self, shared: MutableMapping[str, float], measured: Mapping[str, float]) -> None:
        """Go on in the inner loop."""
        shared["norm_sq"] = measured["norm_sq"]
        shared["inner_step"] = (shared["inner_step"] + 1) % self.inner_steps

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return lr and 0: weight decay joins the gradient."""
        return k.lr, 0.0

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Carry the estimate on and return it."""
        return s.estimate.add_(g - s.previous_gradient) + p * k.weight_decay


class RecursiveGradientOptimizer(FiniteSumOptimizer):
    """Runs a `RecursiveGradientRule`: the full gradient first, then two gradients a step."""

    def _step(self, evaluations: Evaluations) -> None:
        params, groups = evaluations.params, self._training_groups()
        states = [self.state_of(p) for p in params]
        if any(group["inner_step"] == 0 for group in groups):
            evaluations.loss()
            gradients = self.full_gradient(params)
            before = [torch.zeros_like(p) for p in params]
            for group in groups:
                group["inner_step"] = 0
            for state in states:
                state["estimate"].zero_()
        else:
            gradients = zeros_where_absent(evaluations.gradient()[1], params)
            with evaluations.at([state["previous"] for state in states]):
                before = zeros_where_absent(evaluations.gradient()[1], params)
            before = self.seen_list(before, params)
        for p, state in zip(params, states, strict=True):
            state["previous"].copy_(p)
        self._advance(
            dict(zip(params, gradients, strict=True)),
            {"previous_gradient": dict(zip(params, before, strict=True))},
        )
