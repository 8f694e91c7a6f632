"""Online-to-nonconvex conversion.

Cutkosky, Mehta and Orabona 2023 (arXiv 2302.03775), Zhang and Cutkosky 2024 (arXiv 2405.09742).
"""

import hashlib
from collections.abc import Iterator

import numpy as np

from reference.loop import Arrays, Gradient, Step, copies, zeros
from reference.settings import Setting


def uniform(seed: int, t: int) -> float:
    """Return the draw of step ``t``: the first 63 bits of a hash, as a binary fraction."""
    text = f"{seed}/online-to-nonconvex/{t}"
    return (int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) // 2) / 2.0**63


def online_to_nonconvex(
    start: Arrays,
    gradient: Gradient,
    *,
    lr: float = 1e-2,
    form: str = "basic",
    radius: float = 0.02,
    period: int = 20,
    beta: float = 0.99,
    mu: float = 100.0,
    output: str = "x",
    lengths: str = "exponential",
    seed: int = 0,
    weight_decay: float = 0.0,
) -> Iterator[Step]:
    """The points are those where gradients are taken; `extra` holds what is evaluated."""
    x, w, delta = copies(start), copies(start), zeros(start)
    weight, period_points = 1.0, []
    n = 0
    while True:
        n += 1
        period_points.append(copies(w))
        mean = [np.mean(some, axis=0) for some in zip(*period_points, strict=True)]
        g = [weight * (a + weight_decay * b) for a, b in zip(gradient(n, w), w, strict=True)]
        moved = [a - lr * b for a, b in zip(delta, g, strict=True)]
        draw = uniform(seed, n)
        if form == "exponentiated":
            length = -np.log(1 - draw)
            if lengths == "uniform":
                length = 2 * draw
                weight = 2 - length
            delta = [beta * a / (1 + lr * mu) for a in moved]
            x = w = [a + length * b for a, b in zip(w, delta, strict=True)]
        else:
            x = [a + b for a, b in zip(x, delta, strict=True)]
            norm = np.sqrt(sum(float(np.sum(a**2)) for a in moved))
            delta = [a * min(1.0, radius / norm) for a in moved] if norm > 0 else moved
            if n % period == 0:
                delta, period_points = zeros(start), []
            w = [a + draw * b for a, b in zip(x, delta, strict=True)]
        evaluated = mean if output == "mean" and form == "basic" else x
        yield Step(copies(w), {"x": copies(evaluated)})


REFERENCES = {"online-to-nonconvex": online_to_nonconvex}

SETTINGS = [
    Setting(
        "online-to-nonconvex",
        "basic",
        {"lr": 0.05, "radius": 0.7, "period": 4, "seed": 3, "weight_decay": 0.1},
    ),
    Setting("online-to-nonconvex", "free", {"lr": 0.01, "radius": 50.0, "period": 7}),
    Setting(
        "online-to-nonconvex",
        "exponentiated",
        {"lr": 0.05, "form": "exponentiated", "beta": 0.8, "mu": 2.0, "weight_decay": 0.1},
    ),
    Setting(
        "online-to-nonconvex",
        "mean",
        {"lr": 0.05, "radius": 0.7, "period": 4, "output": "mean", "lengths": "uniform"},
    ),
    Setting(
        "online-to-nonconvex",
        "uniform",
        {
            "lr": 0.05,
            "form": "exponentiated",
            "lengths": "uniform",
            "beta": 0.8,
            "mu": 2.0,
            "output": "mean",
            "weight_decay": 0.1,
        },
    ),
]
