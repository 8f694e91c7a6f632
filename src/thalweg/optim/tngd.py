"""Thermodynamic natural gradient descent."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Evaluations, Rule
from thalweg.engine.one_vector import VectorOptimizer, blank, vector
from thalweg.engine.rule import require
from thalweg.engine.second_order import Linearised, Probes, eigenpairs, shifted


@dataclass(frozen=True)
class TNGDRule(Rule):
    """The settings of `TNGD`."""

    lr: float = 0.1
    damping: float = 0.1
    time: float = 10.0
    delay: float = 0.0
    noise: float = 0.0
    warm_start: bool = True
    adam: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    seed: int = 0

    def check(self) -> None:
        """Refuse negative times, noise and damping."""
        super().check()
        for name in ("damping", "time", "delay", "noise"):
            require(self, name, getattr(self, name) >= 0, "at least 0")
        require(self, "delay", self.delay < math.inf, "finite")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return the device's state, zero, and Adam's moments if they are asked for."""
        names = ("reading", "exp_avg", "exp_avg_sq") if self.adam else ("reading",)
        return {name: blank(p) for name in names}


class TNGD(
    VectorOptimizer,
    rule=TNGDRule,
    slug="tngd",
    reference="Donatella et al. 2026, arXiv 2405.13817",
    space={"lr": Log(1e-2, 1.0), "damping": Log(1e-3, 1.0)},
):
    """TNGD: the natural gradient as an analog device would relax towards it, simulated exactly.

    With J the derivative of the outputs by the parameters, Q the Hessian of the loss by the
    outputs and g the gradient of the loss and its penalty, a device's state x follows::

        F = J^T Q J + (damping + weight_decay) I
        dx = -(F x - g) dt + Normal(0, 2 noise dt)
        p <- p - lr x(time)

    from ``x(0)``, the last reading, or g at the first step. The simulation draws x(time) from its
    exact distribution: the mean is ``F^-1 g + exp(-F time) (x(0) - F^-1 g)``, the covariance
    ``noise F^-1 (I - exp(-2 F time))``. A device that waits for the next batch's F and g goes on
    with the old ones for ``delay`` after it was read. Time 0 without warm start is gradient
    descent, infinite time without noise is damped natural gradient descent.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate.
        damping: added to the diagonal of J^T Q J, at least 0. F has to be positive definite.
        time: for which the device runs on a batch, in units of 1 / (F's eigenvalue); may be inf.
        delay: for which it runs on with the batch before, finite. With ``time=0`` all of what is
            read was computed one step earlier.
        noise: the variance kappa of the device's noise.
        warm_start: start from the last reading; else from g, and delay does nothing.
        adam: take the readings for gradients of Adam with these ``betas`` and ``eps``.
        betas: decay of Adam's moments, each in [0, 1).
        eps: added to Adam's root.
        seed: of the noise; that of a step depends on it and on the step alone.
        weight_decay: of the penalty ``weight_decay / 2 |p|^2``.

    The closure returns (loss, outputs) and does not call backward().

    State: ``reading`` (x) and, with ``adam``, ``exp_avg`` and ``exp_avg_sq``: one or three
    tensors like the parameter. A step takes n d + 2 d^2 numbers for n outputs and d parameters.

    When to use: to study what such a device would do; the simulation factorises F, after which
    the exact natural gradient costs nothing more.

    Reference: Donatella et al., "Thermodynamic Natural Gradient Descent", npj Unconventional
    Computing 2026, arXiv 2405.13817: its equations and algorithm 1. No code of the authors for it
    was found; of theirs the simulator of such processes was read. The paper tunes all settings.
    """

    needs_outputs: ClassVar[bool] = True

    def _moved(self, evaluations: Evaluations, x: Tensor) -> Tensor:
        point, decay = Linearised(evaluations), self.common("weight_decay")
        _, g = point.penalised(x, decay)
        step = self.state_of(evaluations.params[0])["step"]
        values, basis = eigenpairs(shifted(point.gauss_newton(), self.common("damping") + decay))
        start = g
        if step and self.common("warm_start"):
            start = self._remembered("reading", evaluations)
        sooner, later = self._noise(basis, step)
        target = basis.mT @ g
        reading = self._relaxed(basis.mT @ start, target, values, self.common("time"), sooner)
        left = self._relaxed(reading, target, values, self.common("delay"), later)
        self._remember("reading", basis @ left, evaluations)
        d = basis @ reading
        return x - self.common("lr") * (self._adam(d, evaluations) if self.common("adam") else d)

    def _noise(self, basis: Tensor, step: int) -> list[Tensor]:
        """Return standard normal vectors in the basis, one for each time, by the noise's size."""
        probes = Probes(self, self.common("seed"), "tngd", step)
        scale = self.common("noise") ** 0.5
        return [scale * (basis.mT @ vector(probes.normals(i))) for i in range(2)]

    def _relaxed(
        self, start: Tensor, target: Tensor, values: Tensor, time: float, noise: Tensor
    ) -> Tensor:
        """Return the device's state in the eigenbasis of F after a time."""
        mean = start + _share(values, time) * (target - values * start)
        return mean + (2 * _share(2 * values, time)).sqrt() * noise

    def _adam(self, d: Tensor, evaluations: Evaluations) -> Tensor:
        beta1, beta2 = self.common("betas")
        t = self.state_of(evaluations.params[0])["step"] + 1
        m = self._remembered("exp_avg", evaluations).lerp(d, 1 - beta1)
        v = self._remembered("exp_avg_sq", evaluations).lerp(d * d, 1 - beta2)
        self._remember("exp_avg", m, evaluations)
        self._remember("exp_avg_sq", v, evaluations)
        return m / (1 - beta1**t) / ((v / (1 - beta2**t)).sqrt() + self.common("eps"))


def _share(values: Tensor, time: float) -> Tensor:
    """Return ``(1 - exp(-value time)) / value``, which is the time for a value of 0."""
    share = -torch.expm1(-values * time) / values
    return torch.where(values == 0, time, share)
