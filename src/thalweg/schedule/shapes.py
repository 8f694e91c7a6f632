"""The main schedules: what the learning rate does once it has warmed up."""

import math
from dataclasses import dataclass
from typing import Literal

from thalweg.core.checks import check_choice, check_number
from thalweg.schedule.base import Schedule, share

_SHAPES = {
    "1-sqrt": lambda s: 1 - math.sqrt(s),
    "linear": lambda s: 1 - s,
    "square": lambda s: 1 - s * s,
    "cosine": lambda s: (1 + math.cos(math.pi * s)) / 2,
}


@dataclass(frozen=True)
class Constant(Schedule):
    """The peak learning rate throughout: factor 1."""

    def _at(self, step: int, steps: int) -> float:
        del step, steps
        return 1.0


@dataclass(frozen=True)
class Linear(Schedule):
    r"""Straight down: ``f + (1 - f) (T - t) / T``, to exactly ``f`` at the end.

    With ``final=0`` it is D2Z: Bergsma et al., "Straight to Zero", ICLR 2025, arXiv:2502.15938.
    The last update has the factor ``1 / T``; zero comes after it.

    Args:
        final: the factor ``f`` at the end, in [0, 1].

    Raises:
        UsageError: an impossible value.
    """

    final: float = 0.0

    def __post_init__(self) -> None:
        check_number("linear: final", self.final, "[0, 1]")

    def _at(self, step: int, steps: int) -> float:
        return _to(self.final, (steps - step) / steps)


@dataclass(frozen=True)
class Cosine(Schedule):
    r"""Half a cosine wave: ``f + (1 - f) (1 + cos(pi t / T)) / 2``.

    Loshchilov & Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017,
    arXiv:1608.03983, without restarts.

    Args:
        final: the factor ``f`` at the end, in [0, 1].

    Raises:
        UsageError: an impossible value.
    """

    final: float = 0.0

    def __post_init__(self) -> None:
        check_number("cosine: final", self.final, "[0, 1]")

    def _at(self, step: int, steps: int) -> float:
        return _to(self.final, _SHAPES["cosine"](step / steps))


@dataclass(frozen=True)
class Cooldown(Schedule):
    r"""Constant, then down over the last part: ``f + (1 - f) shape(s)``.

    With ``D`` steps of cooldown out of ``T``, the factor is 1 up to ``t = T - D``, and
    ``s = (t - (T - D)) / D`` after it. Hägele et al., "Scaling Laws and Compute-Optimal Training
    Beyond Fixed Training Durations", NeurIPS 2024, arXiv:2405.18392, who found ``1 - sqrt(s)``
    best; also known as WSD (warm-up, stable, decay).

    Args:
        fraction: ``D / T``, in [0, 1]; ``D`` is rounded down. After a warm-up, ``T`` counts the
            steps that follow it.
        shape: ``"1-sqrt"``, ``"linear"`` (``1 - s``), ``"square"`` (``1 - s^2``) or ``"cosine"``.
        final: the factor ``f`` at the end, in [0, 1].

    Raises:
        UsageError: an impossible value.
    """

    fraction: float = 0.2
    shape: Literal["1-sqrt", "linear", "square", "cosine"] = "1-sqrt"
    final: float = 0.0

    def __post_init__(self) -> None:
        check_number("cooldown: fraction", self.fraction, "[0, 1]")
        check_choice("cooldown: shape", self.shape, _SHAPES)
        check_number("cooldown: final", self.final, "[0, 1]")

    def _at(self, step: int, steps: int) -> float:
        length = share(self.fraction, steps)
        into = step - (steps - length)
        if length == 0:
            return self.final if step == steps else 1.0
        return _to(self.final, _SHAPES[self.shape](max(into, 0) / length))


def _to(final: float, shape: float) -> float:
    """Return the shape (1 to 0) rescaled to end at ``final``: ``final + (1 - final) shape``."""
    return min(1.0, shape + final * (1 - shape))  # exact at both ends
