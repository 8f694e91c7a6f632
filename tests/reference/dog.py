"""DoG and L-DoG (Ivgi, Hinder and Carmon 2023, arXiv 2302.12022)."""

from collections.abc import Iterator

import numpy as np

from reference.golden import Golden
from reference.loop import Arrays, Gradient, Step, copies
from reference.settings import Setting


def _norm(arrays: Arrays) -> float:
    return float(np.sqrt(sum(np.sum(a**2) for a in arrays)))


def _walk(
    start: Arrays,
    gradient: Gradient,
    blocks: list[list[int]],
    lr: float,
    reps_rel: float,
    eps: float,
    init_eta: float | None,
    weight_decay: float,
) -> Iterator[Step]:
    """Distance over gradients, for each block of tensors apart."""
    x0, theta = copies(start), copies(start)
    total = [eps] * len(blocks)
    far = [
        0.0 if init_eta is not None else reps_rel * (1 + _norm([x0[i] for i in block]))
        for block in blocks
    ]
    t = 0
    while True:
        t += 1
        slopes = [g + weight_decay * x for g, x in zip(gradient(t, theta), theta, strict=True)]
        for b, block in enumerate(blocks):
            total[b] += _norm([slopes[i] for i in block]) ** 2
            far[b] = max(far[b], _norm([theta[i] - x0[i] for i in block]))
            eta = lr * far[b] / np.sqrt(total[b]) if total[b] > 0 else 0.0
            if t == 1 and init_eta is not None:
                eta = init_eta
            for i in block:
                theta[i] = theta[i] - eta * slopes[i]
        yield Step(copies(theta))


def dog(
    start: Arrays,
    gradient: Gradient,
    *,
    lr: float = 1.0,
    reps_rel: float = 1e-6,
    eps: float = 1e-8,
    init_eta: float | None = None,
    weight_decay: float = 0.0,
) -> Iterator[Step]:
    """All tensors are one block."""
    blocks = [list(range(len(start)))]
    return _walk(start, gradient, blocks, lr, reps_rel, eps, init_eta, weight_decay)


def ldog(
    start: Arrays,
    gradient: Gradient,
    *,
    lr: float = 1.0,
    reps_rel: float = 1e-6,
    eps: float = 1e-8,
    init_eta: float | None = None,
    weight_decay: float = 0.0,
) -> Iterator[Step]:
    """Every tensor is a block."""
    blocks = [[i] for i in range(len(start))]
    return _walk(start, gradient, blocks, lr, reps_rel, eps, init_eta, weight_decay)


REFERENCES = {"dog": dog, "ldog": ldog}

SETTINGS = [
    Setting(slug, name, hyper)
    for slug in ("dog", "ldog")
    for name, hyper in (
        ("decayed", {"lr": 0.7, "reps_rel": 0.05, "eps": 3.0, "weight_decay": 0.3}),
        ("plain", {"lr": 1.5, "reps_rel": 0.2, "eps": 0.0}),
        ("given", {"lr": 0.9, "init_eta": 1e-3, "reps_rel": 9.0, "eps": 0.1, "weight_decay": 0.1}),
    )
]

_POINTS = {
    1: [0.9856356422, -1.971271284, 0.4928178211],
    2: [0.9814557025, -1.979631164, 0.5178974596],
    5: [0.9893651389, -1.992155651, 0.5116213077],
}
_GIVEN = {
    1: [0.978, -1.956, 0.489],
    2: [0.9705052338, -1.966084961, 0.5259986696],
    5: [0.9796646025, -1.979351508, 0.514679248],
}

GOLDEN = [
    Golden(slug, "P3", hyper, points)
    for slug in ("dog", "ldog")
    for hyper, points in (
        ({"reps_rel": 1e-2}, _POINTS),
        ({"init_eta": 0.02, "eps": 0.1, "weight_decay": 0.1}, _GIVEN),
    )
]
