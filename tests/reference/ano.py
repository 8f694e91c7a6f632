"""Ano and Anolog (Kegreisz 2026, arXiv 2508.18258)."""

import math
from collections.abc import Callable, Iterator

import numpy as np

from reference.golden import Golden
from reference.loop import Arrays, Gradient, Step, copies, zeros
from reference.settings import Setting


def _loop(
    start: Arrays,
    gradient: Gradient,
    beta1: Callable[[int], float],
    beta2: float,
    correct: bool,
    lr: float,
    eps: float,
    weight_decay: float,
) -> Iterator[Step]:
    theta, m, v = copies(start), zeros(start), zeros(start)
    t = 0
    while True:
        t += 1
        b1 = beta1(t)
        for i, g in enumerate(gradient(t, theta)):
            m[i] = b1 * m[i] + (1 - b1) * g
            v[i] = beta2 * v[i] + (1 - beta2) * np.sign(g**2 - v[i]) * g**2
            vhat = v[i] / (1 - beta2**t) if correct else v[i]
            theta[i] = (1 - lr * weight_decay) * theta[i]
            theta[i] = theta[i] - lr / np.sqrt(vhat + eps) * np.abs(g) * np.sign(m[i])
        yield Step(copies(theta))


def ano(
    start: Arrays,
    gradient: Gradient,
    *,
    lr: float = 1e-4,
    eps: float = 1e-8,
    betas: tuple[float, float] = (0.92, 0.99),
    bias_correction: bool = True,
    weight_decay: float = 0.0,
) -> Iterator[Step]:
    """Theta -= lr |g| sign(m) / sqrt(vhat + eps), v moving towards g^2 by multiples of it."""
    b1, b2 = betas
    return _loop(start, gradient, lambda t: b1, b2, bias_correction, lr, eps, weight_decay)


def anolog(
    start: Arrays,
    gradient: Gradient,
    *,
    lr: float = 1e-4,
    eps: float = 1e-8,
    beta2: float = 0.99,
    bias_correction: bool = True,
    schedule_offset: int = 0,
    weight_decay: float = 0.0,
) -> Iterator[Step]:
    """The same with b1 = 1 - 1 / ln(max(2, t + offset))."""

    def beta1(t: int) -> float:
        count = t + schedule_offset
        return 1 - 1 / math.log(count if count > 2 else 2)

    return _loop(start, gradient, beta1, beta2, bias_correction, lr, eps, weight_decay)


REFERENCES = {"ano": ano, "anolog": anolog}

SETTINGS = [
    Setting("ano", "decayed", {"lr": 0.1, "betas": (0.8, 0.9), "eps": 0.05, "weight_decay": 0.3}),
    Setting("ano", "slow", {"lr": 0.02, "betas": (0.95, 0.7)}),
    Setting("ano", "uncorrected", {"lr": 0.02, "betas": (0.9, 0.8), "bias_correction": False}),
    Setting("anolog", "offset", {"lr": 0.1, "beta2": 0.9, "eps": 0.05, "schedule_offset": 3}),
    Setting(
        "anolog",
        "uncorrected",
        {"lr": 0.02, "beta2": 0.8, "bias_correction": False, "weight_decay": 0.3},
    ),
]

GOLDEN = [
    Golden(
        "ano",
        "P3",
        {"lr": 0.01},
        {
            1: [0.99, -1.99, 0.4900000002],
            2: [0.9836658887, -1.983665889, 0.5039166796],
            5: [0.9640087551, -1.995249738, 0.5110846283],
        },
    ),
    Golden(
        "anolog",
        "P3",
        {"lr": 0.01},
        {
            2: [0.9836658887, -1.996334111, 0.5039166796],
            5: [0.999764836, -2.007917961, 0.5002684202],
        },
    ),
    Golden(
        "anolog",
        "P3",
        {"lr": 0.01, "beta2": 0.999, "bias_correction": False},
        {1: [0.6837738151, -1.683772629, 0.1837785583]},
    ),
]
