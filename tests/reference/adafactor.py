"""Adafactor (Shazeer and Stern 2018, arXiv 1804.04235), torch's form."""

from collections.abc import Iterator

import numpy as np

from reference.loop import Arrays, Gradient, Step, copies
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
    weight_decay: float = 0.0,
) -> Iterator[Step]:
    """V = R C^T / mean(R) over the last two axes; u = g / sqrt(V), clipped to an rms of d.

    b2(t) = 1 - t^beta2_decay; theta -= max(eps2, rms(theta)) min(lr, 1 / sqrt(t)) u; mean(R) is
    at least eps1 and V at least eps1^2. The decay multiplies theta by 1 - lr weight_decay, after
    its rms was taken.
    """
    eps1 = np.finfo(np.float64).eps if eps[0] is None else eps[0]
    theta = copies(start)
    row = [np.zeros((*p.shape[:-1], 1)) if p.ndim > 1 else None for p in theta]
    column = [np.zeros((*p.shape[:-2], 1, p.shape[-1])) if p.ndim > 1 else None for p in theta]
    full = [np.zeros(p.shape) for p in theta]
    t = 0
    while True:
        t += 1
        b2 = 1 - t**beta2_decay
        updates = []
        for i, g in enumerate(gradient(t, theta)):
            size = max(eps[1], rms(theta[i])) * min(lr, 1 / np.sqrt(t))
            theta[i] = theta[i] * (1 - lr * weight_decay)
            q = g**2
            if g.ndim > 1:
                row[i] = b2 * row[i] + (1 - b2) * q.mean(axis=-1, keepdims=True)
                column[i] = b2 * column[i] + (1 - b2) * q.mean(axis=-2, keepdims=True)
                mean = np.maximum(row[i].mean(axis=-2, keepdims=True), eps1)
                v = row[i] * column[i] / mean
            else:
                full[i] = b2 * full[i] + (1 - b2) * q
                v = full[i]
            u = g / np.sqrt(np.maximum(v, eps1**2))
            u = u / max(1.0, rms(u) / d)
            theta[i] = theta[i] - size * u
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
]
