"""How far the loss rises in a neighbourhood of the weights."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.engine.closure import unflatten
from thalweg.engine.one_vector import vector
from thalweg.landscape.objective import Objective, Progress
from thalweg.landscape.results import Saved
from thalweg.landscape.slope import slope_here

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INFINITY = math.inf


@dataclass(frozen=True)
class Sharpness(Saved):
    """The rise of the loss at the worst point that was found in a neighbourhood.

    Attributes:
        rise: the loss there less the loss at the weights.
        loss: the loss at the weights.
        gradient_norm: the norm of the gradient that is dual to the neighbourhood's.
        displacement: from the weights to the point, shape (n,).
    """

    rise: float
    loss: float
    gradient_norm: float
    displacement: Tensor

    def plot(self, path: str | os.PathLike[str] | None = None) -> "Figure":
        """Draw how the worst point's displacement is spread over entries; see `Grid.plot`."""
        from thalweg.landscape.figures.sizes import draw_sizes

        title = f"loss {self.loss:.4g}, rises by {self.rise:.3g}"
        return draw_sizes({"displacement": self.displacement}, path, title)


def sharpness(
    objective: Objective,
    rho: float,
    *,
    p: float = 2.0,
    adaptive: bool = False,
    eta: float = 0.0,
    ascent_steps: int = 1,
    progress: Progress | None = None,
) -> Sharpness:
    r"""Return how far the loss rises within :math:`|T^{-1} e|_p \le \rho`.

    T is 1, or with ``adaptive`` the diagonal matrix of :math:`|w| + \eta`, which makes the measure
    the same for networks that differ by rescaling (exactly so for eta = 0). One ascent step goes
    to the boundary along the gradient's dual,

    :math:`e = \rho T\, \mathrm{sign}(T g) |T g|^{q-1} / |T g|_q^{q-1}` with
    :math:`1/p + 1/q = 1`,

    to first order the worst point: Foret et al., "Sharpness-Aware Minimization", 2020, arXiv
    2010.01412, and Kwon et al., "ASAM", 2021, arXiv 2102.11600 (whose T leaves biases out; here
    all parameters are treated alike, without which no rescaling of a layer with a bias is
    compensated). With more steps the ascent goes on from where it is, each time to the boundary
    along the dual of the gradient there, and the worst point seen is returned.

    Args:
        objective: the loss, over all of its batches together.
        rho: radius; in units of the weights, or relative to them if ``adaptive``.
        p: of the norm, from 1 to infinity.
        adaptive: whether the neighbourhood scales with the weights.
        eta: added to the weights' magnitude.
        ascent_steps: gradients to follow.
        progress: told how many of how many are followed.

    Raises:
        UsageError: an impossible argument.
    """
    if not (rho >= 0 and math.isfinite(rho)) or not p >= 1 or not eta >= 0 or ascent_steps < 1:
        raise UsageError(
            "sharpness needs a finite rho of at least 0, p and ascent_steps of at least 1 and an "
            f"eta of at least 0; found rho={rho}, p={p}, ascent_steps={ascent_steps}, eta={eta}"
        )
    with _Walk(objective).open() as walk:
        here = walk.start
        scale = here.abs() + eta if adaptive else torch.ones_like(here)
        start, g = walk.at(here)
        norm = _dual(scale * g, p)[1]
        worst, rise = torch.zeros_like(here), 0.0
        for step in range(ascent_steps):
            e = rho * scale * _dual(scale * g, p)[0]
            last = step == ascent_steps - 1
            loss, g = walk.at(here + e, gradient=not last)
            # Written so that a NaN is kept, and the single step's fall too.
            if not loss - start <= rise or ascent_steps == 1:
                worst, rise = e, loss - start
            if progress is not None:
                progress(step + 1, ascent_steps)
    return Sharpness(rise, start, norm, worst)


def epsilon_sharpness(
    objective: Objective,
    epsilon: float = 1e-3,
    *,
    iterations: int = 10,
    progress: Progress | None = None,
) -> Sharpness:
    r"""Return Keskar's sharpness: the rise within a box around the weights.

    The box is :math:`|e_i| \le \epsilon (|w_i| + 1)`, the worst point in it is looked for by
    L-BFGS-B (SciPy's) with so many iterations. The published number is
    ``100 * rise / (1 + loss)``. Keskar et al., "On Large-Batch Training for Deep Learning:
    Generalization Gap and Sharp Minima", 2016, arXiv 1609.04836, on the full space. The gradient
    norm of the result is :math:`\sum_i |g_i| (|w_i| + 1)`, the rise to first order for epsilon 1.

    Args:
        objective: the loss, over all of its batches together.
        epsilon: the box's size.
        iterations: of L-BFGS-B; the paper takes 10.
        progress: told how many of at most how many iterations are done.

    Raises:
        UsageError: an impossible argument.
    """
    if not (epsilon > 0 and math.isfinite(epsilon)) or iterations < 1:
        raise UsageError(
            "epsilon_sharpness needs a positive, finite epsilon and at least one iteration; "
            f"found epsilon={epsilon}, iterations={iterations}"
        )
    with _Walk(objective).open() as walk:
        here = walk.start
        start, g = walk.at(here)
        width = epsilon * (here.abs() + 1)
        norm = float((g.abs() * (here.abs() + 1)).sum())
        seen: list[tuple[float, Tensor]] = [(start, torch.zeros_like(here))]

        def descend(e: np.ndarray) -> tuple[float, np.ndarray]:
            moved = torch.from_numpy(e).to(here)
            loss, slope = walk.at(here + moved)
            seen.append((loss, moved))
            return -loss, -slope.cpu().numpy().astype(np.float64)

        done = 0

        def after(e: np.ndarray) -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress(done, iterations)

        box = width.cpu().numpy().astype(np.float64)
        first = 1e-3 * box * np.sign(g.cpu().numpy())
        minimize(
            descend,
            first,
            jac=True,
            callback=after,
            method="L-BFGS-B",
            bounds=list(zip(-box, box, strict=True)),
            options={"maxiter": iterations},
        )
    if any(math.isnan(loss) for loss, _ in seen):
        loss, moved = next(one for one in seen if math.isnan(one[0]))
    else:
        loss, moved = max(seen, key=lambda one: one[0])
    return Sharpness(loss - start, start, norm, moved)


def _dual(g: Tensor, p: float) -> tuple[Tensor, float]:
    """Return the vector of p-norm 1 along which a linear function rises most, and by how much."""
    if p == 1:
        most = g.abs().max()
        largest = (g.abs() == most).to(g)
        return torch.sign(g) * largest / largest.sum(), float(most)
    if p == INFINITY:
        return torch.sign(g), float(g.abs().sum())
    most = g.abs().max()
    if most == 0:
        return torch.zeros_like(g), 0.0
    q = p / (p - 1)
    size = g.abs() / most  # so that no power overflows
    norm = size.pow(q).sum().pow(1 / q)
    return torch.sign(g) * (size / norm).pow(q - 1), float(norm * most)


class _Walk:
    """The mean loss and its gradient at other weights, as flat vectors in float64 or float32."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._params = objective.sound()
        self.start = vector([p.detach() for p in self._params])

    @contextmanager
    def open(self) -> "Iterator[_Walk]":
        with self._objective.differentiable():
            yield self

    def at(self, x: Tensor, gradient: bool = True) -> tuple[float, Tensor]:
        """Return the loss and its gradient, zeros if that is not asked for."""
        for p, value in zip(self._params, unflatten(x, self._params), strict=True):
            p.data.copy_(value)
        if gradient:
            return slope_here(self._objective)
        total, sizes = 0.0, self._objective.sizes
        for batch, size in zip(self._objective.batches, sizes, strict=True):
            with torch.no_grad():
                total += size / sum(sizes) * float(self._objective.loss_of(batch))
        return total, torch.zeros_like(x)
