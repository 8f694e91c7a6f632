"""OASIS (Jahani et al. 2022, arXiv 2109.05198)."""

import numpy as np

from reference.adahessian import Probes
from reference.curved import Array, Problems


def oasis(
    w: Array,
    problems: Problems,
    steps: int,
    probes: Probes,
    *,
    lr: float = 1e-3,
    beta2: float = 0.99,
    alpha: float = 1e-3,
    weight_decay: float = 0.0,
    adaptive: bool = True,
    momentum: float = 0.0,
) -> tuple[list[Array], list[float]]:
    """The points and the step sizes; no probes at step 1 mean that D starts from 1."""
    signs = probes(1)
    H = problems(1).hessian(w)
    D = np.mean([z * (H @ z) for z in signs], axis=0) if len(signs) else np.ones_like(w)
    scale = np.maximum(np.abs(D), alpha)
    eta, growth = lr, np.inf
    mean = (1 - momentum) * problems(1).gradient(w)
    step = mean / (1 - momentum) / scale
    before, w = w, (1 - eta * weight_decay) * w - eta * step
    path, etas = [w], [eta]
    for t in range(2, steps + 1):
        problem = problems(t)
        (z,) = probes(t)
        D = beta2 * D + (1 - beta2) * z * (problem.hessian(w) @ z)
        scale = np.maximum(np.abs(D), alpha)
        g = problem.gradient(w)
        moved, changed = w - before, g - problem.gradient(before)
        if adaptive:
            measured = 0.5 * np.sqrt((moved**2 * scale).sum() / (changed**2 / scale).sum())
            new = min(np.sqrt(1 + growth) * eta, measured)
            eta, growth = new, new / eta
        mean = momentum * mean + (1 - momentum) * g
        step = mean / (1 - momentum**t) / scale
        before, w = w, (1 - eta * weight_decay) * w - eta * step
        path.append(w)
        etas.append(eta)
    return path, etas


PROCEDURES = {"oasis": oasis}

# Steps 2, 3 and 6 on the vector problem: one step of 0.01 with D = 1 comes first.
NUMBERS = {
    2: [0.961700107, -1.7068557633, 0.1588778944],
    3: [0.9251745018, -1.4621570779, 0.0567829215],
    6: [0.6766055515, -0.3817123648, 0.0010674398],
}
SECOND_ETA = 0.0285857505
