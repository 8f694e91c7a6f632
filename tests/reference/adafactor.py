"""Adafactor (Shazeer and Stern 2018, arXiv 1804.04235), torch's form and the paper's."""

from collections.abc import Iterator

import numpy as np

from reference.loop import Arrays, Gradient, Step, copies, zeros
from reference.settings import Setting


def rms(x: np.ndarray) -> float:
    """Return the root of the mean square."""
    return float(np.sqrt(np.mean(np.square(x))))


def adafactor(
    start: Arrays,
    gradient: Gradient,
    *,
    lr: float = 1e-2,
    beta2_decay: float = -0.8,
    eps: tuple[float | None, float] = (None, 1e-3),
    d: float = 1.0,
    form: str = "torch",
    beta1: float = 0.0,
    weight_decay: float = 0.0,
) -> Iterator[Step]:
    """V = R C^T / mean(R) over the last two axes; u = g / sqrt(V), clipped to an rms of d.

    b2(t) = 1 - t^beta2_decay; theta -= max(eps2, rms(theta)) min(lr, 1 / sqrt(t)) u; mean(R) is
    at least eps1 and V at least eps1^2. The decay multiplies theta by 1 - lr weight_decay, after
    its rms was taken.

    The paper's form instead adds eps1 (1e-30) to g^2. With beta1 the mean of the steps is taken.
    """
    default = 1e-30 if form == "paper" else np.finfo(np.float64).eps
    eps1 = default if eps[0] is None else eps[0]
    added, least = (eps1, 0.0) if form == "paper" else (0.0, eps1)
    theta = copies(start)
    row = [np.zeros((*p.shape[:-1], 1)) if p.ndim > 1 else None for p in theta]
    column = [np.zeros((*p.shape[:-2], 1, p.shape[-1])) if p.ndim > 1 else None for p in theta]
    full, mean_step = zeros(theta), zeros(theta)
    t = 0
    while True:
        t += 1
        b2 = 1 - t**beta2_decay
        updates = []
        for i, g in enumerate(gradient(t, theta)):
            size = max(eps[1], rms(theta[i])) * min(lr, 1 / np.sqrt(t))
            theta[i] = theta[i] * (1 - lr * weight_decay)
            q = g**2 + added
            if g.ndim > 1:
                row[i] = b2 * row[i] + (1 - b2) * q.mean(axis=-1, keepdims=True)
                column[i] = b2 * column[i] + (1 - b2) * q.mean(axis=-2, keepdims=True)
                mean = np.maximum(row[i].mean(axis=-2, keepdims=True), least)
                v = row[i] * column[i] / mean
            else:
                full[i] = b2 * full[i] + (1 - b2) * q
                v = full[i]
            u = g / np.sqrt(np.maximum(v, least**2))
            u = u / max(1.0, rms(u) / d)
            mean_step[i] = beta1 * mean_step[i] + (1 - beta1) * size * u
            theta[i] = theta[i] - mean_step[i]
            updates.append(u)
        yield Step(copies(theta), {"updates": updates})


REFERENCES = {"adafactor": adafactor}
SETTINGS = [
    Setting(
        "adafactor",
        "alike",
        {"lr": 0.2, "d": 1.3},
        shapes=((5,), (3, 4), (5,), (), (3, 4), (2, 3, 4), ()),
    ),
    Setting(
        "adafactor",
        "paper",
        {"lr": 0.2, "form": "paper", "eps": (0.3, 0.5), "beta1": 0.8, "weight_decay": 0.1},
        shapes=((5,), (3, 4), (5,), (), (3, 4), (2, 3, 4), ()),
    ),
    Setting("adafactor", "paper-floor", {"lr": 0.1, "form": "paper", "beta2_decay": -0.4}),
    Setting("adafactor", "averaged", {"lr": 0.1, "beta1": 0.6, "d": 1.2}),
]
