"""Tiger (Su 2023), with shapes in the place of the author's names."""

from collections.abc import Iterator

import numpy as np

from reference.loop import Arrays, Gradient, Step, copies, zeros
from reference.settings import SHAPES, Setting


def tiger(
    start: Arrays,
    gradient: Gradient,
    *,
    lr: float = 1e-3,
    beta: float = 0.965,
    rowwise: bool = False,
    weight_decay: float = 0.01,
) -> Iterator[Step]:
    """Sign descent on the mean, with a rate relative to the weights' root mean square."""
    theta, m = copies(start), zeros(start)
    t = 0
    while True:
        t += 1
        for i, g in enumerate(gradient(t, theta)):
            m[i] = beta * m[i] + (1 - beta) * g
            if theta[i].ndim <= 1:
                theta[i] = theta[i] - lr / 2 * np.sign(m[i])
                continue
            axis = -1 if rowwise else None
            rate = lr * np.sqrt(np.mean(theta[i] ** 2, axis=axis, keepdims=True))
            theta[i] = (1 - rate * weight_decay) * theta[i] - rate * np.sign(m[i])
        yield Step(copies(theta))


REFERENCES = {"tiger": tiger}

SETTINGS = [
    Setting(
        "tiger",
        "whole",
        {"lr": 0.03, "beta": 0.8, "weight_decay": 0.3},
        shapes=(*SHAPES, (1, 1)),
    ),
    Setting("tiger", "rows", {"lr": 0.02, "rowwise": True}),
]
