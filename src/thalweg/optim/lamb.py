"""LAMB."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, RuleOptimizer, State, TwoMoments


@dataclass(frozen=True)
class LAMBRule(TwoMoments):
    """The formula of `LAMB`."""

    eps: float = 1e-6
    adapt: bool = True

    def measure_each(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> dict[str, Tensor]:
        """Return the squared norms of the tensor and of its Adam step."""
        m = s.exp_avg.lerp(g, 1 - k.beta1)
        v = s.exp_avg_sq * k.beta2 + g * g * (1 - k.beta2)
        d = self._adam(m, v, p, k)
        return {"weight": (p * p).sum(), "step": (d * d).sum()}

    def numbers_each(
        self, sums: Mapping[str, float], p: Tensor, s: State, k: Numbers
    ) -> dict[str, float]:
        """Return the ratio of both norms, or 1 where one is 0 or no ratio is wanted."""
        del p, s, k
        adapts = self.adapt and sums["weight"] > 0 and sums["step"] > 0
        return {"trust": (sums["weight"] / sums["step"]) ** 0.5 if adapts else 1.0}

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return lr and 0: weight decay is part of the direction."""
        return k.lr, 0.0

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the Adam step, as long as the tensor."""
        m, v = self.moments(g, s, k)
        return self._adam(m, v, p, k) * k.trust

    def _adam(self, m: Tensor, v: Tensor, p: Tensor, k: Numbers) -> Tensor:
        root = v.sqrt() / k.root_bias_correction2 + k.eps
        return m / root / k.bias_correction1 + p * k.weight_decay


class LAMB(
    RuleOptimizer,
    rule=LAMBRule,
    slug="lamb",
    reference="You et al. 2020, arXiv 1904.00962",
    space={"lr": Log(1e-3, 3e-1), "weight_decay": Log(1e-3, 1.0)},
):
    r"""LAMB: Adam's step, stretched in every tensor to the tensor's own norm.

    ::

        m <- beta1 m + (1 - beta1) g
        v <- beta2 v + (1 - beta2) g^2
        d  = m / (1 - beta1^t) / (sqrt(v) / sqrt(1 - beta2^t) + eps) + weight_decay p
        p <- p - lr |p| / |d| d               (where a norm is 0: p - lr d)

    A step turns or scales every tensor by about lr, whatever its size.

    When to use: very large batches (BERT at 32 thousand and more). Biases and the scales of
    norms are better left at Adam's step: a parameter group with ``adapt=False``.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate, relative to the tensor's norm.
        betas: decay of the mean and of the mean square, each in [0, 1).
        eps: keeps the quotient finite.
        adapt: stretch the step, else Adam with decoupled decay.
        weight_decay: part of the step before it is stretched.

    State: ``exp_avg`` (m) and ``exp_avg_sq`` (v), two tensors like the parameter.

    Reference: You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76
    minutes", ICLR 2020, arXiv 1904.00962; the paper's function of the norm is the identity, as in
    the code in TensorFlow Addons, whose defaults are taken. Some code bounds |p| by 10.
    """
