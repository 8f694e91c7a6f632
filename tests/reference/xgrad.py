"""XGrad (Guan et al. 2023, arXiv 2305.18240) over SGD with momentum, Adam and AdamW."""

from collections.abc import Callable, Iterator

import numpy as np

from reference.golden import Golden

Batch = Callable[[int, np.ndarray], np.ndarray]


def xgrad(
    start: np.ndarray,
    batch: Batch,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    base: str = "adamw",
    momentum: float = 0.9,
    s: float = 1.0,
    weight_decay: float | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the points, and where each step's gradient was taken."""
    b1, b2 = betas
    if weight_decay is None:
        weight_decay = {"sgd": 0.0, "adam": 0.0, "adamw": 1e-2}[base]
    x = start.copy()
    m, v, t = np.zeros_like(x), np.zeros_like(x), 0
    last = np.zeros_like(x)  # the base's last step without its decay, over lr
    while True:
        ahead = x - s * lr * last
        t += 1
        g = batch(t, ahead)
        if base == "adamw":
            x = x - lr * weight_decay * x
        else:
            g = g + weight_decay * x
        if base == "sgd":
            m = momentum * m + g
            last = m
        else:
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * g**2
            last = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        x = x - lr * last
        yield x, ahead


PROCEDURES = {"xgrad": xgrad}

CLOSURE_GOLDEN = [
    Golden(
        "xgrad",
        "P1",
        {"lr": 0.1, "weight_decay": 0.0},
        {
            1: [0.900000001, -1.9, 0.4000000001],
            2: [0.8011874217, -1.800412228, 0.3042509826],
            5: [0.5131424734, -1.504387089, 0.05342481034],
        },
    )
]
