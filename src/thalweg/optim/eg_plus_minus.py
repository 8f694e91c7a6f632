"""Exponentiated gradient on the difference of two positive vectors."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.core.space import Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State
from thalweg.engine.distributed import gathered
from thalweg.engine.rule import require


@dataclass(frozen=True)
class EGPlusMinusRule(Rule):
    """The formula of `EGPlusMinus`."""

    reads: ClassVar[Literal["element", "tensor"]] = "tensor"

    lr: float = 0.04
    u_scaling: float = 100.0
    count_bias: bool = False
    entropy: float = 0.0

    def check(self) -> None:
        """Refuse a total that is not positive, and a negative regularisation."""
        super().check()
        require(self, "u_scaling", self.u_scaling > 0, "positive")
        require(self, "entropy", self.entropy >= 0, "at least 0")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return both parts, whose difference is the parameter; refuse weights too large."""
        w = _neurons(gathered(p.detach()))
        # Half precisions cannot hold the difference of two numbers much larger than it.
        w = w.to(torch.promote_types(w.dtype, torch.float32))
        share = self.u_scaling / max(w.shape[1] + self.count_bias, 1)
        if not w.is_meta and w.numel() and float(w.abs().max()) >= share:
            raise UsageError(
                f"eg-plus-minus: a weight of size {float(w.abs().max()):.3g} does not fit among "
                f"{w.shape[1]} inputs with u_scaling={self.u_scaling:g}, which leaves {share:.3g} "
                "to each; give a larger u_scaling"
            )
        return {"positive": (share + w) / 2, "negative": (share - w) / 2}

    def scalars(self, t: int) -> dict[str, float]:
        """Return the total of a neuron, and what the first step, which moves nothing, leaves out.

        These are the rate and the power of the parts that the entropy leaves.
        """
        power = 1 / (1 + self.entropy) if t > 1 else 1.0
        return {"total": self.u_scaling, "rate": power * self.lr if t > 1 else 0.0, "power": power}

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return 1 and 0: `update` returns the whole movement."""
        return 1.0, 0.0

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the movement of the difference."""
        whole = gathered(p)
        if k.lr == 0:
            return torch.zeros_like(whole)
        gradient = _neurons(gathered(g) + whole * k.weight_decay).to(s.positive.dtype)
        plus = s.positive.pow_(k.power).mul_(torch.exp(gradient * -k.rate))
        minus = s.negative.pow_(k.power).mul_(torch.exp(gradient * k.rate))
        total = ((plus + minus).sum(1, keepdim=True) + 1e-7) / k.total
        return whole - (plus.div_(total) - minus.div_(total)).to(p.dtype).reshape(whole.shape)


def _neurons(w: Tensor) -> Tensor:
    """Return a tensor with each neuron's weights in a row; vectors are one neuron's."""
    return w.flatten(1) if w.ndim > 1 else w.reshape(1, -1)


class EGPlusMinus(
    RuleOptimizer,
    rule=EGPlusMinusRule,
    slug="eg-plus-minus",
    name="EG+-",
    reference="Kivinen & Warmuth 1997",
    space={"lr": Log(1e-3, 1.0)},
):
    r"""EG+-: exponentiated gradient for weights of either sign, of constant size in total.

    A weight is the difference of two positive numbers, and those of a neuron (a slice of a tensor
    along its first axis; all of a vector) add up to U = u_scaling::

        a <- a exp(-lr g),   b <- b exp(lr g)
        a, b <- U a / (Z + 1e-7), U b / (Z + 1e-7),   Z = sum(a + b)
        p  = a - b

    with ``a + b = U / n`` for each of n weights at the start. The first call puts the weights onto
    this set and uses no gradient. With ``entropy`` e above 0, each step minimises ``e sum(a log a +
    b log b)`` too, which draws a neuron's parts towards each other::

        a <- (a exp(-lr g))^(1 / (1 + e)),   b <- (b exp(lr g))^(1 / (1 + e))       before Z

    A rule sees one tensor at a time, so that a bias vector is a neuron of its own with the total U,
    and does not share the totals of the neurons that it belongs to, as it does in the paper. For
    that, let the layer have no bias and append a constant input of 1, whose column of the weight
    is the bias; or give biases to another rule by a parameter group of their own::

        EGPlusMinus([{"params": weights}, {"params": biases, "rule": "sgd", "lr": 0.1}])

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate; about 4 / U.
        u_scaling: U, which bounds the weights: none of n may begin at U / n or above.
        count_bias: begin with ``a + b = U / (n + 1)``, which the first normalisation undoes by
            multiplying all weights by (n + 1) / n.
        entropy: weight of the regularisation towards equal parts, per step, at least 0; by group.
        weight_decay: coupled (L2).

    State: ``positive`` (a) and ``negative`` (b), float32 at least, a row for each neuron.

    When to use: linear predictors with many irrelevant inputs, which it forgets at a logarithmic
    cost; networks as an experiment.

    Reference: Kivinen & Warmuth, "Exponentiated Gradient versus Gradient Descent for Linear
    Predictors", Information and Computation 1997; constants and the entropy's step as in
    third-party code for networks, which always counts a bias ("bootstrap") whether the layer has
    one or not, and lets it share the neuron's total. That code's L1 regularisation multiplies all
    of a neuron's weights by one factor; it is left out, for the normalisation undoes it.
    """
