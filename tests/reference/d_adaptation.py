"""D-Adaptation (Defazio and Mishchenko 2023, arXiv 2301.07733): SGD, Adam, AdaGrad and Lion.

A call whose learning rate is 0 is skipped; lr may be a function of the call.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

from reference.golden import Golden
from reference.loop import Arrays, Gradient, Step, copies, zeros
from reference.settings import Setting


def _inner(a: Arrays, b: Arrays) -> float:
    return sum(float(np.sum(x * y)) for x, y in zip(a, b, strict=True))


def _norm1(a: Arrays) -> float:
    return sum(float(np.sum(np.abs(x))) for x in a)


def dadapt_sgd(
    start: Arrays,
    gradient: Gradient,
    *,
    lr: float | Callable[[int], float] = 1.0,
    momentum: float = 0.0,
    d0: float = 1e-6,
    growth_rate: float = math.inf,
    weight_decay: float = 0.0,
) -> Iterator[Step]:
    """Dual averaging z = x0 - s with weights d / G0; theta averages the z.

    Twice the sum of <lambda g, s>, over ||s||, is below the distance.
    """
    x0, theta, s = copies(start), copies(start), zeros(start)
    d, numerator, first = d0, 0.0, 0.0
    t = 0
    while True:
        t += 1
        eta = lr(t) if callable(lr) else lr
        if eta == 0:
            yield Step(copies(theta), {"d": d})
            continue
        g = [a + weight_decay * x for a, x in zip(gradient(t, theta), theta, strict=True)]
        first = first or math.sqrt(_inner(g, g))
        if first > 0:
            weight = d * eta / first
            numerator += weight * _inner(g, s)
            s = [a + weight * b for a, b in zip(s, g, strict=True)]
            bound = 2 * numerator / math.sqrt(_inner(s, s))
            d = max(d, min(bound, growth_rate * d))
            theta = [
                momentum * x + (1 - momentum) * (x_start - a)
                for x, x_start, a in zip(theta, x0, s, strict=True)
            ]
        yield Step(copies(theta), {"d": d})


def dadapt_adam(
    start: Arrays,
    gradient: Gradient,
    *,
    lr: float | Callable[[int], float] = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    decouple: bool = False,
    use_bias_correction: bool = False,
    d0: float = 1e-6,
    growth_rate: float = math.inf,
    weight_decay: float = 0.0,
) -> Iterator[Step]:
    """The learning rate is inside the mean; the old root weighs <g, s>."""
    b1, b2 = betas
    q = math.sqrt(b2)
    theta, m, v, s = copies(start), zeros(start), zeros(start), zeros(start)
    d, numerator = d0, 0.0
    calls, t = 0, 1
    while True:
        calls += 1
        eta = lr(calls) if callable(lr) else lr
        if eta == 0:
            yield Step(copies(theta), {"d": d})
            continue
        rate = d * eta
        if use_bias_correction:
            rate *= math.sqrt(1 - b2**t) / (1 - b1**t)
        g = copies(gradient(calls, theta))
        if not decouple:
            g = [a + weight_decay * x for a, x in zip(g, theta, strict=True)]
        metric = [a / (np.sqrt(b) + eps) for a, b in zip(s, v, strict=True)]
        product = rate * _inner(g, metric)
        m = [b1 * a + (1 - b1) * rate * b for a, b in zip(m, g, strict=True)]
        v = [b2 * a + (1 - b2) * b**2 for a, b in zip(v, g, strict=True)]
        s = [q * a + (1 - q) * rate * b for a, b in zip(s, g, strict=True)]
        if _norm1(s) > 0:  # otherwise no gradient has come yet, and nothing happens
            t += 1
            numerator = q * numerator + (1 - q) * product
            d = max(d, min(numerator / ((1 - q) * _norm1(s)), growth_rate * d))
            shrink = 1 - rate * weight_decay if decouple else 1.0
            theta = [
                shrink * x - a / (np.sqrt(b) + eps) for x, a, b in zip(theta, m, v, strict=True)
            ]
        yield Step(copies(theta), {"d": d})


def dadapt_lion(
    start: Arrays,
    gradient: Gradient,
    *,
    lr: float | Callable[[int], float] = 1.0,
    betas: tuple[float, float] = (0.9, 0.99),
    d0: float = 1e-6,
    growth_rate: float = math.inf,
    weight_decay: float = 0.0,
) -> Iterator[Step]:
    """As for Adam with the sign of Lion's interpolation in place of g, which has no metric."""
    b1, b2 = betas
    q = math.sqrt(b2)
    theta, m, s = copies(start), zeros(start), zeros(start)
    d, numerator = d0, 0.0
    t = 0
    while True:
        t += 1
        eta = lr(t) if callable(lr) else lr
        if eta == 0:
            yield Step(copies(theta), {"d": d})
            continue
        rate = d * eta
        g = gradient(t, theta)
        u = [np.sign(b1 * a + (1 - b1) * b) for a, b in zip(m, g, strict=True)]
        product = rate * _inner(u, s)
        m = [b2 * a + (1 - b2) * rate * b for a, b in zip(m, g, strict=True)]
        s = [q * a + (1 - q) * rate * b for a, b in zip(s, u, strict=True)]
        if _norm1(s) > 0:
            theta = [
                (1 - rate * weight_decay) * x - rate * a for x, a in zip(theta, u, strict=True)
            ]
            numerator = q * numerator + (1 - q) * product
            d = max(d, min(numerator / ((1 - q) * _norm1(s)), growth_rate * d))
        yield Step(copies(theta), {"d": d})


def dadapt_adagrad(
    start: Arrays,
    gradient: Gradient,
    *,
    lr: float | Callable[[int], float] = 1.0,
    momentum: float = 0.0,
    eps: float = 1e-6,
    d0: float = 1e-6,
    growth_rate: float = math.inf,
    weight_decay: float = 0.0,
) -> Iterator[Step]:
    """Dual averaging in AdaGrad's metric, whose sum starts at 1e-6."""
    x0, theta, s = copies(start), copies(start), zeros(start)
    total = [np.full(np.shape(x), 1e-6) for x in start]
    d, steps = d0, 0.0
    t = 0
    while True:
        t += 1
        eta = lr(t) if callable(lr) else lr
        if eta == 0:
            yield Step(copies(theta), {"d": d})
            continue
        moved = 0.0
        for i, g in enumerate(gradient(t, theta)):
            g = g + weight_decay * theta[i]
            total[i] = total[i] + g**2
            root = np.sqrt(total[i]) + eps
            s[i] = s[i] + d * eta * g
            steps += (d * eta) ** 2 * float(np.sum(g**2 / root))
            moved += float(np.sum(s[i] ** 2 / root))
            theta[i] = momentum * theta[i] + (1 - momentum) * (x0[i] - s[i] / root)
        if _norm1(s) > 0:
            d = max(d, min((moved - steps) / _norm1(s), growth_rate * d))
        yield Step(copies(theta), {"d": d})


def _in_bursts(t: int) -> float:
    return 0.0 if t <= 2 or t in (8, 15, 16) else 0.9 - 0.01 * t


REFERENCES = {
    "dadapt-sgd": dadapt_sgd,
    "dadapt-adam": dadapt_adam,
    "dadapt-lion": dadapt_lion,
    "dadapt-adagrad": dadapt_adagrad,
}

SETTINGS = [
    Setting(
        "dadapt-sgd",
        "decayed",
        {"lr": 0.7, "momentum": 0.6, "d0": 1e-2, "weight_decay": 0.1},
        drift=1.5,
        steps=40,
    ),
    Setting(
        "dadapt-sgd",
        "throttled",
        {"lr": 1.2, "d0": 1e-3, "growth_rate": 1.3},
        drift=2.0,
        steps=40,
    ),
    Setting(
        "dadapt-sgd",
        "resting",
        {"lr": _in_bursts, "momentum": 0.6, "d0": 1e-2, "weight_decay": 0.1},
        drift=1.5,
    ),
    Setting(
        "dadapt-adam",
        "resting",
        {
            "lr": _in_bursts,
            "betas": (0.8, 0.9),
            "use_bias_correction": True,
            "d0": 1e-2,
            "weight_decay": 0.1,
        },
        drift=1.5,
    ),
    Setting(
        "dadapt-lion",
        "resting",
        {"lr": _in_bursts, "betas": (0.8, 0.9), "d0": 0.05, "weight_decay": 0.1},
        drift=1.5,
    ),
    Setting(
        "dadapt-adagrad",
        "resting",
        {
            "lr": _in_bursts,
            "momentum": 0.6,
            "d0": 0.1,
            "growth_rate": 1.2,
            "weight_decay": 0.1,
        },
        drift=3.0,
    ),
    Setting(
        "dadapt-adam",
        "coupled",
        {"lr": 0.7, "betas": (0.8, 0.9), "eps": 0.01, "d0": 1e-2, "weight_decay": 0.1},
        drift=1.5,
        steps=40,
    ),
    Setting(
        "dadapt-adam",
        "corrected",
        {
            "lr": 1.2,
            "betas": (0.9, 0.95),
            "use_bias_correction": True,
            "decouple": True,
            "weight_decay": 0.2,
            "d0": 1e-3,
            "growth_rate": 1.4,
        },
        drift=2.0,
        steps=40,
    ),
    Setting(
        "dadapt-lion",
        "decayed",
        {"lr": 0.7, "betas": (0.8, 0.9), "d0": 0.05, "weight_decay": 0.1},
        drift=1.5,
        steps=40,
    ),
    Setting(
        "dadapt-lion",
        "throttled",
        {"lr": 1.2, "betas": (0.9, 0.6), "d0": 0.02, "growth_rate": 1.2},
        drift=2.0,
        steps=40,
    ),
    Setting(
        "dadapt-adagrad",
        "decayed",
        {"lr": 0.7, "momentum": 0.6, "eps": 0.05, "d0": 0.1, "weight_decay": 0.1},
        drift=3.0,
        steps=40,
    ),
    Setting(
        "dadapt-adagrad",
        "throttled",
        {"lr": 1.5, "d0": 0.01, "growth_rate": 1.1},
        drift=5.0,
        steps=40,
    ),
]

GOLDEN = [
    Golden(
        "dadapt-sgd",
        "P1",
        {},
        {
            5: [0.9999994218, -1.999995375, 0.4999927729],
            20: [0.9978275669, -1.982662036, 0.4733592199],
        },
        extra={"d": {20: 0.0234302187}},
    ),
    Golden(
        "dadapt-sgd",
        "P1",
        {"momentum": 0.9, "d0": 1e-3},
        {
            5: [0.9998813959, -1.999051242, 0.4985183809],
            20: [0.7637041905, -0.4335152333, -0.08037747781],
        },
        extra={"d": {20: 3.898201811}},
    ),
    Golden(
        "dadapt-adam",
        "P1",
        {},
        {
            5: [0.9994571531, -1.999457136, 0.4994571863],
            20: [0.3110283243, -0.2810424289, -0.5227969998],
        },
        extra={"d": {20: 2.671810485}},
    ),
    Golden(
        "dadapt-adam",
        "P1",
        {"use_bias_correction": True, "decouple": True, "weight_decay": 0.1, "d0": 1e-3},
        {
            1: [0.9989683775, -1.998936754, 0.4989841886],
            5: [0.982141576, -1.981501112, 0.4824868755],
            20: [0.02020887208, 0.6949344112, 0.05182732596],
        },
        extra={"d": {20: 1.91617419}},
    ),
    Golden(
        "dadapt-lion",
        "P1",
        {"betas": (0.8, 0.9), "weight_decay": 0.1, "d0": 1e-3},
        {
            1: [0.9989, -1.9988, 0.49895],
            5: [0.9939128217, -1.993359442, 0.4941895116],
            20: [0.1135273374, -1.032938913, 0.1272412223],
        },
        extra={"d": {20: 0.27643779}},
    ),
    Golden(
        "dadapt-lion",
        "P3",
        {"betas": (0.8, 0.9), "weight_decay": 0.1, "d0": 1e-3},
        {
            5: [0.9985006999, -2.0000004, 0.50075025],
            20: [0.9940072951, -2.000001599, 0.5029987503],
        },
    ),
    Golden(
        "dadapt-adagrad",
        "P1",
        {},
        {
            5: [0.999997628, -1.999997628, 0.499997628],
            20: [0.9999644563, -1.999964456, 0.4999644566],
        },
        extra={"d": {20: 3.18066816e-05}},
    ),
    Golden(
        "dadapt-adagrad",
        "P1",
        {"momentum": 0.5, "d0": 1e-2, "eps": 1e-3},
        {
            1: [0.9950049975, -1.995000625, 0.4950004],
            5: [0.9797915977, -1.979779881, 0.4797887102],
            20: [0.7254185174, -1.715562009, 0.2464580745],
        },
        extra={"d": {20: 0.2742209567}},
    ),
]
