"""AdaBelief (Zhuang et al. 2020, arXiv 2010.07468), the authors' release 0.2."""

from collections.abc import Iterator

import numpy as np

from reference.loop import Arrays, Gradient, Step, copies, zeros
from reference.settings import Setting


def adabelief(
    start: Arrays,
    gradient: Gradient,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-16,
    weight_decay: float = 0.0,
    weight_decouple: bool = True,
    fixed_decay: bool = False,
    rectify: bool = True,
    degenerated_to_sgd: bool = True,
    amsgrad: bool = False,
) -> Iterator[Step]:
    """The variance of g around m scales the step; eps joins it at every step and again at the root.

    Rectified: with n = 2 / (1 - b2) - 1 and n_t = n - 2 t b2^t / (1 - b2^t) samples' worth of
    evidence, the step is lr r m / (1 - b1^t) / (sqrt(s) + eps) from n_t = 5 on, and before that
    lr m / (1 - b1^t), or nothing. With amsgrad the largest s so far is s where not rectified.
    """
    b1, b2 = betas
    theta, m, s, largest = copies(start), zeros(start), zeros(start), zeros(start)
    n = 2 / (1 - b2) - 1
    t = 0
    while True:
        t += 1
        n_t = n - 2 * t * b2**t / (1 - b2**t)
        for i, g in enumerate(gradient(t, theta)):
            if weight_decouple:
                theta[i] = theta[i] * (1 - (1 if fixed_decay else lr) * weight_decay)
            else:
                g = g + weight_decay * theta[i]
            m[i] = b1 * m[i] + (1 - b1) * g
            s[i] = b2 * s[i] + (1 - b2) * (g - m[i]) ** 2 + eps
            largest[i] = np.maximum(largest[i], s[i])
            mhat = m[i] / (1 - b1**t)
            if not rectify:
                shat = (largest[i] if amsgrad else s[i]) / (1 - b2**t)
                step = mhat / (np.sqrt(shat) + eps)
            elif n_t >= 5:
                r = (n_t - 4) * (n_t - 2) * n / ((n - 4) * (n - 2) * n_t)
                step = np.sqrt((1 - b2**t) * r) * mhat / (np.sqrt(s[i]) + eps)
            elif degenerated_to_sgd:
                step = mhat
            else:
                step = np.zeros_like(mhat)
            theta[i] = theta[i] - lr * step
        yield Step(copies(theta))


REFERENCES = {"adabelief": adabelief}

SETTINGS = [
    Setting(
        "adabelief",
        "maximum",
        {
            "lr": 0.05,
            "betas": (0.8, 0.6),
            "eps": 1e-3,
            "weight_decay": 0.3,
            "rectify": False,
            "amsgrad": True,
        },
    ),
]
