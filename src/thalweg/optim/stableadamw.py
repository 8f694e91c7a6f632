"""StableAdamW."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State
from thalweg.engine.rule import require


@dataclass(frozen=True)
class StableAdamWRule(Rule):
    """The formula of `StableAdamW`."""

    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    clip_threshold: float = 1.0
    weight_decay: float = 0.2

    def check(self) -> None:
        """Refuse a threshold of 0."""
        super().check()
        require(self, "clip_threshold", self.clip_threshold > 0, "above 0")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the mean and the mean square, zero."""
        return {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}

    def scalars(self, t: int) -> dict[str, float]:
        """Return eps, and the weights of the newest gradient in both means."""
        beta1, beta2 = self.betas
        return {
            "eps": self.eps,
            "newest1": (1 - beta1) / (1 - beta1**t),
            "newest2": (1 - beta2) / (1 - beta2**t),
        }

    def measure_each(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> dict[str, Tensor]:
        """Return the sum of g^2 / v."""
        del p
        v = s.exp_avg_sq.lerp(g * g, k.newest2).clamp_min(k.eps * k.eps)
        return {"surprise": (g * g / v).sum()}

    def numbers_each(
        self, sums: Mapping[str, float], p: Tensor, s: State, k: Numbers
    ) -> dict[str, float]:
        """Return the factor on the tensor's step."""
        del s, k
        rms = (sums["surprise"] / max(p.numel(), 1)) ** 0.5
        return {"clip": 1 / max(1.0, rms / self.clip_threshold)}

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return m over the root of v, clipped."""
        del p
        m = s.exp_avg.lerp_(g, k.newest1)
        v = s.exp_avg_sq.lerp_(g * g, k.newest2)
        return m / (v.sqrt() + k.eps) * k.clip


class StableAdamW(
    RuleOptimizer,
    rule=StableAdamWRule,
    slug="stableadamw",
    reference="Wortsman et al. 2023, arXiv 2304.13013",
    space={"lr": Log(1e-4, 1e-1), "weight_decay": Log(1e-3, 1.0)},
):
    r"""StableAdamW: AdamW that shortens a tensor's step when its gradients outrun v.

    ::

        m <- m + (1 - beta1) / (1 - beta1^t) (g - m)
        v <- v + (1 - beta2) / (1 - beta2^t) (g^2 - v)
        c  = max(1, sqrt(mean(g^2 / max(v, eps^2))) / clip_threshold)
        p <- (1 - lr weight_decay) p - lr / c m / (sqrt(v) + eps)

    The mean is over the entries of one tensor. v lags behind gradients that grow all at once, and
    AdamW then takes the large steps that show as spikes of the loss.

    When to use: in AdamW's place, above all in low precision and large models. It replaces
    clipping of the gradient's norm.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate.
        betas: decay of the mean and of the mean square, each in [0, 1).
        eps: keeps the quotients finite.
        clip_threshold: root mean square of g / sqrt(v) from which steps are shortened.
        weight_decay: decoupled, and not shortened.

    State: ``exp_avg`` (m) and ``exp_avg_sq`` (v), free of bias, two tensors like the parameter.

    Reference: Wortsman et al., "Stable and low-precision training for large-scale vision-language
    models", NeurIPS 2023, arXiv 2304.13013; formula and defaults of the first author's code. The
    paper's algorithm shortens the weight decay too.
    """
