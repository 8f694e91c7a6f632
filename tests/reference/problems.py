"""The problems on which golden numbers are stated."""

import math
from collections.abc import Callable, Iterator

import numpy as np

from reference.loop import Arrays, Gradient

VECTOR = np.array([1.0, -2.0, 0.5])
MATRIX = np.array([[1.0, -2.0, 0.5], [0.3, 0.8, -1.2]])

_VECTOR_CURVATURE = np.array([1.0, 4.0, 25.0])
_MATRIX_CURVATURE = np.array([[1.0, 4.0, 2.0], [3.0, 0.5, 5.0]])
_SCRIPT = np.array(
    [
        [1.0, -2.0, 0.5],
        [0.5, 1.0, -3.0],
        [-0.2, -0.5, 1.0],
        [0.1, 2.0, 0.0],
        [-1.0, 0.3, -0.25],
    ]
)


def p1(t: int, points: Arrays) -> Arrays:
    """Gradient of 0.5 (w1^2 + 4 w2^2 + 25 w3^2)."""
    return [_VECTOR_CURVATURE * points[0]]


def p2(t: int, points: Arrays) -> Arrays:
    """Gradient of 0.5 sum_ij a_ij W_ij^2."""
    return [_MATRIX_CURVATURE * points[0]]


def p3(t: int, points: Arrays) -> Arrays:
    """Scripted gradients with sign flips, a spike and an exact zero; five, then again."""
    return [_SCRIPT[(t - 1) % 5].copy()]


def p4(t: int, points: Arrays) -> Arrays:
    """Scripted matrices: row one is P3's gradient of this step, row two that of the next."""
    return [np.stack([_SCRIPT[(t - 1) % 5], _SCRIPT[t % 5]])]


PROBLEMS: dict[str, tuple[Arrays, Gradient]] = {
    "P1": ([VECTOR], p1),
    "P2": ([MATRIX], p2),
    "P3": ([VECTOR], p3),
    "P4": ([MATRIX], p4),
}


def counter_example(
    c: float,
) -> tuple[Callable[[int], float], Callable[[int], float], dict[str, float]]:
    """The convex problem on [-1, 1] where Adam goes to the worst point (arXiv 1904.09237).

    f_t(x) = c x when t mod 3 = 1 and -x otherwise, so the optimum of the sum is x = -1 for c > 2.
    Returns the gradient and the learning rate at step t, and the betas' second entry by name.
    """
    beta2 = 1 / (1 + c * c)
    scale = 0.5 * math.sqrt(1 - beta2)

    def gradient(t: int) -> float:
        return c if t % 3 == 1 else -1.0

    def lr(t: int) -> float:
        return scale / math.sqrt(t)

    return gradient, lr, {"beta1": 0.0, "beta2": beta2, "start": 1.0}


def second_counter_example() -> tuple[
    Callable[[int], float], Callable[[int], float], dict[str, float]
]:
    """The paper's other form: f_t(x) = 1010 x when t mod 101 = 1 and -10 x otherwise."""

    def gradient(t: int) -> float:
        return 1010.0 if t % 101 == 1 else -10.0

    def lr(t: int) -> float:
        return 0.5 / math.sqrt(t)

    return gradient, lr, {"beta1": 0.9, "beta2": 0.99, "start": 0.0}


def projected(
    gradient: Callable[[int], float],
    lr: Callable[[int], float],
    settings: dict[str, float],
    *,
    amsgrad: bool,
) -> Iterator[float]:
    """Yield the iterates of Adam or AMSGrad, uncorrected, with projection onto [-1, 1]."""
    beta1, beta2 = settings["beta1"], settings["beta2"]
    x, m, v, largest = settings["start"], 0.0, 0.0, 0.0
    t = 0
    while True:
        t += 1
        g = gradient(t)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        largest = max(largest, v) if amsgrad else v
        x = min(1.0, max(-1.0, x - lr(t) * m / math.sqrt(largest)))
        yield x
