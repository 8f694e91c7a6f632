"""Saddle-free Newton (Dauphin et al. 2014, arXiv 1406.2572)."""

from dataclasses import replace

import numpy as np
import scipy.linalg

from reference.curved import Array, Problems


def saddle_free_newton(
    w: Array,
    problems: Problems,
    steps: int,
    *,
    lr: float = 1.0,
    damping: float = 0.01,
    krylov_dim: int = 0,
    rank: int = 0,
    adaptive_damping: bool = False,
    weight_decay: float = 0.0,
) -> tuple[list[Array], list[float]]:
    """The points, and the damping after each step."""
    before = np.zeros_like(w)
    path, dampings = [], []
    for t in range(1, steps + 1):
        problem = replace(problems(t), decay=weight_decay)
        H, g = problem.hessian(w), problem.gradient(w)
        V = np.eye(len(w))
        if krylov_dim:
            columns = [g]
            for _ in range(krylov_dim - 1):
                columns.append(H @ columns[-1] / np.linalg.norm(columns[-1]))
            V = scipy.linalg.orth(np.stack([*columns, before], 1), rcond=1e-12)
        # |A| is the positive factor of A's polar decomposition.
        positive = scipy.linalg.polar(V.T @ H @ V)[1]
        if rank:
            _, sizes, right = np.linalg.svd(H)
            positive = right.T[:, :rank] @ np.diag(sizes[:rank]) @ right[:rank]
        model = positive + damping * np.eye(V.shape[1])
        s = -lr * V @ np.linalg.solve(model, V.T @ g)
        if adaptive_damping:
            fall = problem.loss(w) - problem.loss(w + s)
            predicted = -(g @ s + 0.5 * s @ V @ model @ V.T @ s)
            if fall / predicted > 0.3:
                damping = max(damping / 10, 1e-5)
            elif fall < 0:
                damping = min(damping * 10, 10.0)
                s = None
        if s is not None:
            w, before = w + s, s
        path.append(w)
        dampings.append(damping)
    return path, dampings


PROCEDURES = {"saddle-free-newton": saddle_free_newton}
