"""Optimistic AMSGrad (Wang, Li, Karimi and Li 2021, arXiv 1903.01435)."""

from collections.abc import Iterator

import numpy as np

from reference.golden import Golden
from reference.loop import Arrays, Gradient, Step, copies, zeros
from reference.settings import Setting


def extrapolated(vectors: list[np.ndarray], ridge: float) -> np.ndarray:
    """Return the regularised minimal polynomial extrapolation of r + 1 vectors, oldest first.

    The weight of each of the r differences goes to its newer end.
    """
    if len(vectors) == 1:
        return vectors[0]
    x = np.stack(vectors, axis=1)
    u = x[:, 1:] - x[:, :-1]
    z = np.linalg.inv(u.T @ u + ridge * np.eye(u.shape[1])).sum(axis=1)
    return x[:, 1:] @ (z / z.sum())


def opt_amsgrad(
    start: Arrays,
    gradient: Gradient,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    hint: str = "previous",
    span: int = 5,
    ridge: float = 1e-3,
    weight_decay: float = 0.0,
) -> Iterator[Step]:
    """Two iterates: u moves along h, theta further along the hint m of the next gradient.

    All tensors are one vector here.
    """
    b1, b2 = betas
    u = np.concatenate([np.ravel(x) for x in copies(start)])
    theta, h, m = u.copy(), np.zeros_like(u), np.zeros_like(u)
    v, vhat = np.full_like(u, eps), np.full_like(u, eps)
    past: list[np.ndarray] = []
    t = 0
    while True:
        t += 1
        g = np.concatenate([np.ravel(x) for x in gradient(t, _split(theta, start))])
        past = [*past, g][-(span + 1) :]
        h_before, h = h, b1 * h + (1 - b1) * g
        v = b2 * v + (1 - b2) * (g - m) ** 2
        vhat = np.maximum(vhat, v)
        u = u - lr * h / np.sqrt(vhat) - lr * weight_decay * theta
        m = {
            "previous": g,
            "none": np.zeros_like(g),
            "extrapolation": extrapolated(past, ridge),
        }[hint]
        theta = u - lr * (b1 * h_before + (1 - b1) * m) / np.sqrt(vhat)
        yield Step(_split(theta, start))


def _split(vector: np.ndarray, like: Arrays) -> Arrays:
    parts, at = zeros(like), 0
    for i, x in enumerate(like):
        parts[i] = vector[at : at + np.size(x)].reshape(np.shape(x)).copy()
        at += np.size(x)
    return parts


REFERENCES = {"opt-amsgrad": opt_amsgrad}

SETTINGS = [
    Setting(
        "opt-amsgrad",
        "previous",
        {"lr": 0.05, "betas": (0.8, 0.6), "eps": 0.01, "weight_decay": 0.3},
    ),
    Setting(
        "opt-amsgrad",
        "unhinted",
        {"lr": 0.03, "betas": (0.7, 0.6), "eps": 0.1, "hint": "none", "weight_decay": 0.2},
    ),
    Setting(
        "opt-amsgrad",
        "extrapolating",
        {"lr": 0.02, "betas": (0.9, 0.9), "hint": "extrapolation", "span": 3, "ridge": 5.0},
    ),
    Setting(
        "opt-amsgrad",
        "nearly-singular",
        {"lr": 0.02, "betas": (0.7, 0.95), "hint": "extrapolation"},
        shapes=((), (2,)),
    ),
]

GOLDEN = [
    Golden(
        "opt-amsgrad",
        "P3",
        {"lr": 0.01, "eps": 1e-8},
        {
            1: [0.9367547627, -1.936754526, 0.4367557104],
            2: [0.889150041, -1.954342181, 0.5139940799],
            5: [0.8805366863, -1.971884902, 0.5207768082],
        },
    ),
]
