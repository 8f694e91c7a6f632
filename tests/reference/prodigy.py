"""Prodigy (Mishchenko and Defazio 2024, arXiv 2306.06101), Adam form."""

import math
from collections.abc import Callable, Iterator

import numpy as np

from reference.loop import Arrays, Gradient, Step, copies, zeros
from reference.settings import Setting


def prodigy(
    start: Arrays,
    gradient: Gradient,
    *,
    lr: float | Callable[[int], float] = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
    beta3: float | None = None,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decouple: bool = True,
    use_bias_correction: bool = False,
    safeguard_warmup: bool = False,
    d0: float = 1e-6,
    d_coef: float = 1.0,
    growth_rate: float = math.inf,
) -> Iterator[Step]:
    """One estimate d of the distance to the solution, over all tensors, scales Adam's step.

    The gradients' products with x0 - theta, weighted by d, are summed to a numerator, the
    gradients themselves to s; d_coef numerator / ||s||_1 bounds the distance from below. Calls
    with a learning rate of 0 are skipped. lr may be a function of the call.
    """
    b1, b2 = betas
    b3 = math.sqrt(b2) if beta3 is None else beta3
    x0, theta = copies(start), copies(start)
    m, v, s = zeros(start), zeros(start), zeros(start)
    d, d_max, numerator = d0, d0, 0.0
    calls, t = 0, 1
    while True:
        calls += 1
        eta = lr(calls) if callable(lr) else lr
        if eta == 0:
            yield Step(copies(theta), {"d": d})
            continue
        correction = math.sqrt(1 - b2**t) / (1 - b1**t) if use_bias_correction else 1.0
        dlr = d * eta * correction
        gradients = copies(gradient(calls, theta))
        product, denominator = 0.0, 0.0
        for i, g in enumerate(gradients):
            if not decouple:
                g = g + weight_decay * theta[i]
            product += (d / d0) * dlr * float(np.sum(g * (x0[i] - theta[i])))
            m[i] = b1 * m[i] + (1 - b1) * d * g
            v[i] = b2 * v[i] + (1 - b2) * d**2 * g**2
            s[i] = b3 * s[i] + (d / d0) * (d if safeguard_warmup else dlr) * g
            denominator += float(np.sum(np.abs(s[i])))
        if denominator > 0:  # otherwise no gradient has come yet, and nothing happens
            t += 1
            numerator = b3 * numerator + product
            d_hat = d_coef * numerator / denominator
            if d == d0:
                d = max(d, d_hat)
            d_max = max(d_max, d_hat)
            d = min(d_max, d * growth_rate)
            for i in range(len(theta)):
                decay = weight_decay * theta[i] if decouple else 0.0
                theta[i] = theta[i] - dlr * (m[i] / (np.sqrt(v[i]) + d * eps) + decay)
        yield Step(copies(theta), {"d": d})


def _in_bursts(t: int) -> float:
    return 0.0 if t <= 2 or t in (8, 15, 16) else 0.9 - 0.01 * t


REFERENCES = {"prodigy": prodigy}

SETTINGS = [
    Setting(
        "prodigy",
        "resting",
        {
            "lr": _in_bursts,
            "betas": (0.8, 0.9),
            "use_bias_correction": True,
            "d0": 1e-2,
            "weight_decay": 0.1,
        },
        drift=1.5,
    ),
    Setting(
        "prodigy",
        "resting-guarded",
        {"lr": _in_bursts, "betas": (0.9, 0.95), "safeguard_warmup": True, "d0": 1e-2, "eps": 0.1},
        drift=1.5,
    ),
]
