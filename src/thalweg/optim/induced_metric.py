"""The induced-metric optimiser."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.core.space import Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State
from thalweg.engine.plan import Gradients
from thalweg.engine.rule import require


@dataclass(frozen=True)
class InducedMetricRule(Rule):
    """The formula of `InducedMetric`."""

    lr: float = 0.1
    momentum: float = 0.9
    xi: float = 0.1
    beta: float = 0.8
    form: Literal["plain", "log", "rms"] = "plain"
    beta_rms: float = 0.99
    eps: float = 1e-8

    @property
    def needs_loss(self) -> bool:  # type: ignore[override]
        """Return whether ``k.loss`` has to be there: in the metric of the logarithm alone."""
        return self.form == "log"

    def check(self) -> None:
        """Refuse decays outside [0, 1) and a negative xi."""
        super().check()
        for name in ("momentum", "beta", "beta_rms"):
            require(self, name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        require(self, "xi", self.xi >= 0, "at least 0")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the mean, and in the RMS form the mean square, zero."""
        names = ["momentum_buffer"] + ["square_avg"] * (self.form == "rms")
        return {name: torch.zeros_like(p) for name in names}

    def shared(self) -> dict[str, float]:
        """Return the number of steps, the mean of the squared slope, and that corrected."""
        return {"k": 0, "slope_avg": 0.0, "slope": 0.0}

    def advance(self, shared: MutableMapping[str, float], measured: Mapping[str, float]) -> None:
        """Take the squared slope into its mean."""
        shared["k"] += 1
        fresh = (1 - self.beta) * self.xi * measured["square"]
        shared["slope_avg"] = self.beta * shared["slope_avg"] + fresh
        shared["slope"] = shared["slope_avg"] / (1 - self.beta ** shared["k"])

    def scalars(self, t: int) -> dict[str, float]:
        """Return the decays, eps and the bias corrections."""
        return {
            "momentum": self.momentum,
            "beta_rms": self.beta_rms,
            "eps": self.eps,
            "bias_correction": 1 - self.momentum**t,
            "bias_correction_rms": 1 - self.beta_rms**t,
        }

    def measure(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> dict[str, Tensor]:
        """Return the squared norm of the gradient, in the RMS form over the root."""
        del p
        square = g * g
        if self.form == "rms":
            square = square / self._root(s.square_avg * k.beta_rms + square * (1 - k.beta_rms), k)
        return {"square": square.sum()}

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return lr times what the metric leaves of the slope, and lr * weight_decay."""
        height = k.loss if self.form == "log" else 1.0
        width = height * height + k.slope
        return k.lr * height / width if width != 0 else 0.0, k.lr * k.weight_decay

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the mean, in the RMS form over the root."""
        del p
        m = s.momentum_buffer.lerp_(g, 1 - k.momentum) / k.bias_correction
        if self.form == "rms":
            m = m / self._root(s.square_avg.lerp_(g * g, 1 - k.beta_rms), k)
        return m

    def _root(self, squares: Tensor, k: Numbers) -> Tensor:
        return (squares / k.bias_correction_rms).sqrt() + k.eps


class InducedMetric(
    RuleOptimizer,
    rule=InducedMetricRule,
    slug="induced-metric",
    name="Induced metric",
    reference="Harvey 2025, arXiv 2509.03594",
    space={"lr": Log(1e-2, 3.0), "weight_decay": Log(1e-6, 1e-2)},
):
    r"""Induced metric: momentum whose step shortens where the loss surface is steep.

    The graph of the loss, as a surface over the weights, has the metric ``I + xi g g^T``; its
    inverse times g is ``g / (1 + xi |g|^2)``. With that factor averaged, and sums over all
    tensors::

        q <- beta q + (1 - beta) xi |g|^2,                  q' = q / (1 - beta^t)
        m <- momentum m + (1 - momentum) g,                 m' = m / (1 - momentum^t)
        p <- (1 - lr weight_decay) p - lr m' / (1 + q')

    "log" takes the graph of the logarithm of the loss L: the factor is ``L / (L^2 + q')``, and
    ``step`` needs a closure, whose loss must be positive. "rms" has RMSprop's metric in place of
    I: with r the mean square of g, corrected, ``|g|^2`` is ``sum g^2 / (sqrt(r) + eps)`` and m' is
    divided by ``sqrt(r) + eps``.

    When to use: training that is spoilt by sudden steep gradients: the factor is a smooth
    clipping, with no step longer than ``lr / (2 sqrt(xi))`` without the two means.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate.
        momentum: decay of the mean gradient, in [0, 1).
        xi: how much a steep slope shortens the step; 0 leaves SGD with a corrected mean.
        beta: decay of the mean squared slope, in [0, 1).
        form: "plain", "log" or "rms".
        beta_rms: decay of the mean square, in [0, 1); "rms" only.
        eps: keeps the quotient finite; "rms" only.
        weight_decay: decoupled.

    State: ``momentum_buffer`` (m), with "rms" also ``square_avg`` (r), each a tensor like the
    parameter; in each group the numbers ``k`` (steps), ``slope_avg`` (q) and ``slope`` (q').

    Reference: Harvey, "The Optimiser Hidden in Plain Sight: Training with the Loss Landscape's
    Induced Metric", 2025, arXiv 2509.03594; defaults of the authors' code. The metric is that of
    all groups together; their PyTorch code works for one group only, and rounds the loss to
    float32.
    """

    def _advance(
        self,
        gradients: Gradients | None = None,
        extras: Mapping[str, Gradients] = MappingProxyType({}),
        loss: Any = None,
    ) -> None:
        logarithmic = any(group["form"] == "log" for group in self.param_groups)
        if logarithmic and loss is not None and float(loss) <= 0:
            raise UsageError(
                f'InducedMetric: form="log" takes the logarithm of the loss, which must not be 0 '
                f"or negative, found {float(loss):g}; add a constant to the loss, or take another "
                "form"
            )
        super()._advance(gradients, extras, loss)
