"""EG+- (Kivinen & Warmuth 1997), on the logarithms of both parts."""

from collections.abc import Iterator

import numpy as np

from reference.golden import Golden
from reference.loop import Arrays, Gradient, Step, copies
from reference.settings import Setting


def eg_plus_minus(
    start: Arrays,
    gradient: Gradient,
    *,
    lr: float = 0.04,
    u_scaling: float = 100.0,
    count_bias: bool = False,
    entropy: float = 0.0,
    weight_decay: float = 0.0,
) -> Iterator[Step]:
    """Each row of [log a, log b] moves against [g, -g]; then a softmax times U, but for 1e-7."""
    theta = copies(start)
    logs = []
    for w in theta:
        rows = w.reshape(len(w), -1) if w.ndim > 1 else w.reshape(1, -1)
        share = u_scaling / (rows.shape[1] + (1 if count_bias else 0))
        logs.append(np.log(np.concatenate([(share + rows) / 2, (share - rows) / 2], axis=1)))
    t = 0
    while True:
        t += 1
        for i, g in enumerate(gradient(t, theta)):
            slope = (g + weight_decay * theta[i]).reshape(len(logs[i]), -1)
            if t > 1:
                logs[i] = logs[i] - lr * np.concatenate([slope, -slope], axis=1)
                logs[i] = logs[i] / (1 + entropy)
            z = np.exp(logs[i]).sum(axis=1, keepdims=True)
            logs[i] = logs[i] - np.log(z + 1e-7) + np.log(u_scaling)
            a, b = np.split(np.exp(logs[i]), 2, axis=1)
            theta[i] = (a - b).reshape(theta[i].shape)
        yield Step(copies(theta))


REFERENCES = {"eg-plus-minus": eg_plus_minus}

_SHAPES = ((), (5,), (3, 4), (2, 3, 2, 2))
SETTINGS = [
    Setting(
        "eg-plus-minus", "decayed", {"lr": 0.03, "u_scaling": 40.0, "weight_decay": 0.3}, _SHAPES
    ),
    Setting(
        "eg-plus-minus", "biased", {"lr": 0.01, "u_scaling": 60.0, "count_bias": True}, _SHAPES
    ),
    Setting(
        "eg-plus-minus",
        "regularised",
        {"lr": 0.03, "u_scaling": 40.0, "entropy": 0.2, "weight_decay": 0.1},
        _SHAPES,
    ),
]
GOLDEN = [
    Golden(
        "eg-plus-minus",
        "P2",
        {"lr": 0.01, "u_scaling": 10.0, "count_bias": True},
        {
            2: [
                *(1.327787847, -2.395591188, 0.6410024334),
                *(0.364683601, 1.062468052, -1.355476321),
            ],
            6: [
                *(1.241338154, -1.580334318, 0.5157699496),
                *(0.2430770943, 1.017595559, -0.6984931777),
            ],
        },
    ),
]
