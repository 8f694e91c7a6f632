"""AMSGrad (Reddi, Kale and Kumar 2018, arXiv 1904.09237) with torch's bias corrections."""

from collections.abc import Iterator

import numpy as np

from reference.loop import Arrays, Gradient, Step, copies, zeros
from reference.settings import Setting


def amsgrad(
    start: Arrays,
    gradient: Gradient,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    correct_bias: bool = True,
    weight_decay: float = 0.0,
) -> Iterator[Step]:
    """As Adam with the running maximum of the uncorrected v in place of v.

    The paper's algorithm 2 is without corrections.
    """
    b1, b2 = betas
    theta, m, v, largest = copies(start), zeros(start), zeros(start), zeros(start)
    t = 0
    while True:
        t += 1
        for i, g in enumerate(gradient(t, theta)):
            g = g + weight_decay * theta[i]
            m[i] = b1 * m[i] + (1 - b1) * g
            v[i] = b2 * v[i] + (1 - b2) * g**2
            largest[i] = np.maximum(largest[i], v[i])
            mhat, vhat = m[i], largest[i]
            if correct_bias:
                mhat, vhat = mhat / (1 - b1**t), vhat / (1 - b2**t)
            theta[i] = theta[i] - lr * mhat / (np.sqrt(vhat) + eps)
        yield Step(copies(theta), {"largest": copies(largest)})


REFERENCES = {"amsgrad": amsgrad}

SETTINGS = [
    Setting(
        "amsgrad",
        "uncorrected",
        {
            "lr": 0.05,
            "betas": (0.8, 0.7),
            "eps": 0.01,
            "correct_bias": False,
            "weight_decay": 0.3,
        },
    ),
]
