"""Sophia."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.core.seeds import generator
from thalweg.core.space import Log
from thalweg.engine import ClosureOptimizer, Evaluations, Numbers, Rule, State
from thalweg.engine.closure import zeros_where_absent
from thalweg.engine.rule import require
from thalweg.engine.second_order import Probes, hessian_product


@dataclass(frozen=True)
class SophiaRule(Rule):
    """The formula of `Sophia`."""

    betas: tuple[float, float] = (0.965, 0.99)
    gamma: float = 0.01
    eps: float = 1e-12
    weight_decay: float = 0.1
    update_period: int = 10
    estimator: Literal["hutchinson", "gauss-newton-bartlett"] = "hutchinson"
    seed: int = 0

    def check(self) -> None:
        """Refuse a negative gamma, no eps and a period below 1."""
        super().check()
        require(self, "gamma", self.gamma >= 0, "at least 0")
        require(self, "eps", self.eps > 0, "positive")
        require(self, "update_period", self.update_period >= 1, "at least 1")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the mean gradient and the mean curvature, zero."""
        return {"exp_avg": torch.zeros_like(p), "hessian": torch.zeros_like(p)}

    def scalars(self, t: int) -> dict[str, float]:
        """Return the first beta, gamma and eps."""
        del t
        return {"beta1": self.betas[0], "gamma": self.gamma, "eps": self.eps}

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the mean gradient over the mean curvature, clipped by entry."""
        m = s.exp_avg.lerp_(g, 1 - k.beta1)
        return (m / (s.hessian * k.gamma).clamp(min=k.eps)).clamp(-1, 1)


class Sophia(
    ClosureOptimizer,
    rule=SophiaRule,
    slug="sophia",
    reference="Liu et al. 2024, arXiv 2305.14342",
    space={"lr": Log(1e-4, 3e-2), "weight_decay": Log(1e-3, 1.0)},
):
    """Sophia: clipped steps by a curvature that is looked at every few steps.

    With h' an estimate of the curvature's diagonal at steps 1, 1 + update_period, ...::

        m <- beta1 m + (1 - beta1) g
        h <- beta2 h + (1 - beta2) h'                             (at those steps)
        p <- (1 - lr weight_decay) p - lr clip(m / max(gamma h, eps), -1, 1)

    Sophia-H has ``h' = z (H z)`` with the batch's Hessian H and standard normal z. Sophia-G takes
    the model's outputs as logits, draws a label for each of their B rows from the softmax, and
    with g' the gradient of the mean cross-entropy of those labels has ``h' = B g'^2``, an estimate
    of the Gauss-Newton matrix's diagonal.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate, which no entry's step exceeds.
        betas: decay of m and h, each in [0, 1).
        gamma: the smaller, the more entries are clipped; 0.01 is the paper's for Sophia-H, 0.05
            for Sophia-G.
        eps: the least ``gamma h`` that is divided by, positive; where curvature is negative, the
            step is lr times the sign.
        update_period: steps from one estimate of the curvature to the next.
        estimator: "hutchinson" for Sophia-H or "gauss-newton-bartlett" for Sophia-G, for which
            the closure returns (loss, outputs).
        seed: of z and of the drawn labels; those of a step depend on it and on the step alone.
        weight_decay: decoupled.

    State: ``exp_avg`` (m) and ``hessian`` (h), two tensors like the parameter.

    When to use: long runs of language models, where an estimate every ten steps is a few per cent
    of the time and differently curved directions are many. It is tuned like Lion: smaller lr than
    AdamW's.

    Reference: Liu et al., "Sophia: A Scalable Stochastic Second-order Optimizer for Language
    Model Pre-training", ICLR 2024, arXiv 2305.14342. This is the paper's formula; of the authors'
    programs one adds eps instead of taking the maximum, one corrects the bias of m, and in the
    one for Sophia-G the batch size is a part of gamma.
    """

    needs_graph: ClassVar[bool] = True
    penalised: ClassVar[bool] = False

    def _step(self, evaluations: Evaluations) -> None:
        params = evaluations.params
        step = self.state_of(params[0])["step"]
        if step % self.common("update_period"):
            gradients = zeros_where_absent(evaluations.gradient()[1], params)
            self._advance(dict(zip(params, gradients, strict=True)))
            return
        if self.common("estimator") == "hutchinson":
            _, gradients = evaluations.graph()
            probes = Probes(self, self.common("seed"), "sophia", step).normals()
            products = hessian_product(gradients, params, probes)
            estimate: Iterable[Tensor] = map(torch.mul, probes, products)
        else:
            loss, outputs = evaluations.outputs()
            gradients = _gradients(loss, params)
            drawn, rows = _drawn_loss(outputs, self.common("seed"), step)
            estimate = [rows * g * g for g in _gradients(drawn, params)]
        beta2 = self.common("betas")[1]
        for p, x in zip(params, estimate, strict=True):
            self.state_of(p)["hessian"].lerp_(x, 1 - beta2)
        self._advance(dict(zip(params, gradients, strict=True)))


def _gradients(loss: Tensor, params: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, params, retain_graph=True, materialize_grads=True)


def _drawn_loss(logits: Tensor, seed: int, step: int) -> tuple[Tensor, int]:
    """Return the mean cross-entropy of labels drawn from the model, and how many they are."""
    if logits.ndim < 2:
        raise UsageError(
            'Sophia with estimator="gauss-newton-bartlett" takes the outputs as logits of shape '
            f"(..., classes), found {tuple(logits.shape)}"
        )
    with torch.enable_grad():
        rows = logits.reshape(-1, logits.shape[-1])
    random = generator(seed, "sophia", step)
    labels = torch.multinomial(rows.softmax(1).cpu(), 1, generator=random)[:, 0]
    with torch.enable_grad():
        loss = nn.functional.cross_entropy(rows, labels.to(rows.device))
    return loss, len(rows)
