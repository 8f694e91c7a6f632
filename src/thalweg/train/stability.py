"""Up to which sharpness an optimiser's steps are stable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Stability:
    r"""The largest curvature at which a rule does not diverge on a quadratic.

    Attributes:
        threshold: for the largest eigenvalue of what is measured; NaN where it is not known.
        measured: "hessian", or "preconditioned hessian" for :math:`P^{-1/2} H P^{-1/2}`.
        preconditioner: the diagonal of P, shape (n,), if there is one.
    """

    threshold: float
    measured: str = "hessian"
    preconditioner: Tensor | None = None


def stability(optimizer: torch.optim.Optimizer, params: Sequence[Tensor]) -> Stability:
    r"""Return where an optimiser's next steps stop being stable.

    With learning rate :math:`\eta`, momentum :math:`\beta`, dampening d and coupled weight decay
    :math:`\lambda`, from the roots of the recursion on a quadratic:

    - SGD: :math:`2 (1 + \beta) / ((1 - d) \eta) - \lambda`, that is :math:`2 / \eta` without
      momentum; Nesterov :math:`2 (1 + \beta) / (\eta (1 + 2 \beta)) - \lambda`. Cohen et al.,
      "Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability", 2021, arXiv
      2103.00065.
    - Adam and AdamW (torch's and Thalweg's): :math:`2 (1 + \beta_1) (1 - \beta_1^t) /
      ((1 - \beta_1) \eta)` for the Hessian preconditioned by :math:`P = \sqrt{v / (1 -
      \beta_2^t)} + \epsilon`, held as it is; weight decay is left out. Cohen et al., "Adaptive
      Gradient Methods at the Edge of Stability", 2022, arXiv 2207.14484.

    For all other rules, and where groups differ in these numbers, the threshold is NaN and what is
    measured is the Hessian itself. Rules are known by their class's name.

    Args:
        optimizer: after at least one step.
        params: the parameters, in the order of the Hessian's.
    """
    keys = ("lr", "momentum", "dampening", "nesterov", "weight_decay", "betas", "eps", "maximize")
    found = [{key: _number(group.get(key)) for key in keys} for group in optimizer.param_groups]
    if any(one != found[0] for one in found) or found[0]["maximize"] or not found[0]["lr"]:
        return Stability(math.nan)
    group, lr = found[0], found[0]["lr"]
    kind = type(optimizer).__name__
    if kind == "SGD":
        beta, decay = group["momentum"] or 0.0, group["weight_decay"] or 0.0
        if group["nesterov"]:
            return Stability(2 * (1 + beta) / (lr * (1 + 2 * beta)) - decay)
        # The first gradient of a momentum buffer is not dampened, which a few steps forget.
        damped = 1 - (group["dampening"] or 0.0) if beta else 1.0
        return Stability(2 * (1 + beta) / (damped * lr) - decay if damped > 0 else math.nan)
    if kind in ("Adam", "AdamW") and not any(g.get("amsgrad") for g in optimizer.param_groups):
        states = [optimizer.state.get(p, {}) for p in params]
        if not all("exp_avg_sq" in state and "step" in state for state in states):
            return Stability(math.nan)
        beta1, beta2 = group["betas"]
        steps = float(states[0]["step"])
        roots = [(s["exp_avg_sq"].detach() / (1 - beta2**steps)).sqrt() for s in states]
        diagonal = torch.cat([(root + group["eps"]).reshape(-1) for root in roots])
        threshold = 2 * (1 + beta1) * (1 - beta1**steps) / ((1 - beta1) * lr)
        return Stability(threshold, "preconditioned hessian", diagonal)
    return Stability(math.nan)


def _number(value: Any) -> Any:
    if isinstance(value, Tensor):
        return float(value)
    return tuple(value) if isinstance(value, list) else value
