"""What the landscape does under a run: sharpness, subspaces, distances, noise."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.landscape.curvature import Hessian, eigenpairs, gradient_statistics
from thalweg.landscape.objective import Objective
from thalweg.landscape.slope import loss_and_gradient
from thalweg.train.events import Callback
from thalweg.train.stability import stability
from thalweg.workload.batch import sample_count
from thalweg.workload.batches import in_order

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from thalweg.train.run import Run


@dataclass(frozen=True, eq=False)
class Dynamics:
    r"""Measurements along a run, an array with one entry for each.

    All are of the mean loss over fixed batches in evaluation mode, whatever the run's batches.

    Attributes:
        step: updates done.
        seconds: training time so far.
        loss: the loss.
        gradient_norm: of its gradient g.
        eigenvalues: the largest of its Hessian, descending, shape (measurements, k).
        sharpness: the largest eigenvalue of the Hessian.
        stability: the largest eigenvalue of what ``measured`` names: the Hessian, or for Adam and
            AdamW the preconditioned Hessian.
        threshold: where ``stability`` makes the rule unstable, :math:`2 / \eta` for gradient
            descent; see `thalweg.train.stability.stability`. NaN for rules where it is not known.
        residual: the largest residual of the eigenpairs; an eigenvalue lies that near each.
        top_share: :math:`|V^\top g|^2 / |g|^2`, V the k top eigenvectors (Gur-Ari et al.,
            "Gradient Descent Happens in a Tiny Subspace", 2018, arXiv 1812.04754).
        distance: Euclidean distance of the weights from where the callback saw the run start.
        update_cosine: of the last update and the one before it.
        noise_scale: see `GradientStatistics`; NaN if it was not asked for.
        measured: what ``stability`` is of.
        cost: seconds that measuring took, in all.
    """

    step: np.ndarray
    seconds: np.ndarray
    loss: np.ndarray
    gradient_norm: np.ndarray
    eigenvalues: np.ndarray
    sharpness: np.ndarray
    stability: np.ndarray
    threshold: np.ndarray
    residual: np.ndarray
    top_share: np.ndarray
    distance: np.ndarray
    update_cosine: np.ndarray
    noise_scale: np.ndarray
    measured: str
    cost: float

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw the loss, and sharpness beside where the rule becomes unstable; see `Grid.plot`.

        Raises:
            UsageError: nothing was measured, or matplotlib is missing.
        """
        from thalweg.landscape.figures.dynamics import draw_dynamics

        return draw_dynamics({"run": self}, path)


class FollowDynamics(Callback):
    """Measures the landscape along a run, in a bounded share of its time.

    The spacing adapts: the first measurement is made as soon as there are two updates to compare;
    each further one when all measuring so far and one more like the last would together take at
    most ``share`` of the training time so far. So no run measures for longer than that share and
    one measurement. Which steps are measured then depends on how fast the machine is; with
    ``share=None`` it is every ``every`` steps, whatever that takes.

    Example::

        follow = FollowDynamics(share=0.1)
        train.fit("digits", "sgd(lr=0.1)", callbacks=[follow])
        print(follow.dynamics().sharpness)

    Args:
        share: of the training time; None sets no bound.
        every: least steps between measurements.
        batches: what the loss is measured on; the first ``samples`` of the training data in their
            order unless given.
        samples: see ``batches``.
        count: k, how many eigenvalues.
        tolerance: of the eigenpairs; see `eigenpairs`.
        max_products: likewise.
        noise: whether to measure the noise scale, which reads every sample's gradient.

    Raises:
        UsageError: an impossible argument.
    """

    def __init__(
        self,
        *,
        share: float | None = 0.1,
        every: int = 1,
        batches: Any = None,
        samples: int = 1000,
        count: int = 1,
        tolerance: float = 1e-2,
        max_products: int = 50,
        noise: bool = False,
    ) -> None:
        if not (share is None or share > 0) or min(every, samples, count) < 1:
            raise UsageError(
                "following needs a positive share, and every, samples and count of at least 1; "
                f"found {share}, {every}, {samples} and {count}"
            )
        self._share, self._every, self._batches, self._samples = share, every, batches, samples
        self._count, self._tolerance, self._products = count, tolerance, max_products
        self._noise = noise
        self._restart()

    def dynamics(self) -> Dynamics:
        """Return what was measured so far."""
        columns = {
            field.name: np.array([row[field.name] for row in self._rows])
            for field in fields(Dynamics)
            if field.name not in ("measured", "cost")
        }
        return Dynamics(**columns, measured=self._measured, cost=self._cost)

    def on_start(self, run: Run) -> None:
        """Remember where the run starts."""
        self._restart()
        begin = time.perf_counter()
        self._objective = self._objective_of(run)
        self._start = self._weights()
        self._recent.append(self._start)
        self._cost += time.perf_counter() - begin

    def on_step(self, run: Run, step: int, loss: float) -> None:
        """Measure if it is due."""
        begin = time.perf_counter()
        if not math.isfinite(loss) or not self._affordable(run):
            self._recent.clear()
            return
        if step < self._next - 2:
            return
        here = self._weights()
        if step >= self._next and len(self._recent) == 2 and bool(here.isfinite().all()):
            self._rows.append(self._row(run, here))
            self._last = time.perf_counter() - begin
            self._next = step + self._every
        self._recent.append(here)
        self._cost += time.perf_counter() - begin

    def _restart(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._measured, self._cost, self._last, self._next = "hessian", 0.0, 0.0, 0
        # The weights before the last update and before the one before it.
        self._recent: deque[Tensor] = deque(maxlen=2)

    def _affordable(self, run: Run) -> bool:
        if self._share is None or not self._rows:
            return True
        return self._cost + self._last <= self._share * run.seconds

    def _objective_of(self, run: Run) -> Objective:
        batches = self._batches
        if batches is None:
            work, device = run.workload, run.settings.device
            batches, seen = [], 0
            for batch in in_order(work.train, work.batch_size, device, work.collate):
                batches.append(batch)
                seen += sample_count(batch)
                if seen >= self._samples:
                    break
        return Objective(run.model, run.workload.loss, batches)

    def _weights(self) -> Tensor:
        return torch.cat([p.detach().reshape(-1) for p in self._objective.trainable()])

    def _row(self, run: Run, here: Tensor) -> dict[str, Any]:
        objective = self._objective
        loss, g = loss_and_gradient(objective)
        hessian = Hessian(objective)
        words: Any = {"tolerance": self._tolerance, "max_products": self._products}
        top = eigenpairs(hessian, self._count, **words)
        limit = stability(run.optimizer, objective.trainable())
        self._measured = limit.measured
        unstable, residual = float(top.values[0]), float(top.residuals.max())
        if limit.preconditioner is not None:
            scaled = eigenpairs(_Preconditioned(hessian, limit.preconditioner), 1, **words)
            unstable = float(scaled.values[0])
            residual = max(residual, float(scaled.residuals[0]))
        norm = float(torch.linalg.vector_norm(g))
        inside = float(torch.linalg.vector_norm(top.vectors.mT @ g.to(top.vectors)))
        last, before = here - self._recent[-1], self._recent[-1] - self._recent[-2]
        lengths = float(torch.linalg.vector_norm(last) * torch.linalg.vector_norm(before))
        return {
            "step": run.step,
            "seconds": run.seconds,
            "loss": loss,
            "gradient_norm": norm,
            "eigenvalues": top.values.cpu().numpy(),
            "sharpness": float(top.values[0]),
            "stability": unstable,
            "threshold": limit.threshold,
            "residual": residual,
            "top_share": (inside / norm) ** 2 if norm > 0 else math.nan,
            "distance": float(torch.linalg.vector_norm(here - self._start)),
            "update_cosine": float(last @ before) / lengths if lengths > 0 else math.nan,
            "noise_scale": gradient_statistics(objective).noise_scale if self._noise else math.nan,
        }


class _Preconditioned:
    r"""The operator :math:`P^{-1/2} H P^{-1/2}`, with the eigenvalues of :math:`P^{-1} H`."""

    def __init__(self, hessian: Hessian, preconditioner: Tensor) -> None:
        self._hessian = hessian
        self._scale = preconditioner.to(hessian.dtype).rsqrt()
        self.shape, self.dtype, self.device = hessian.shape, hessian.dtype, hessian.device

    def __matmul__(self, v: Tensor, /) -> Tensor:
        return self._scale * (self._hessian @ (self._scale * v))
