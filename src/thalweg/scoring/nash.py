"""Nash averaging: ratings that copies of an agent or of a task cannot change.

Balduzzi, Tuyls, Perolat & Graepel, "Re-evaluating Evaluation", NeurIPS 2018, arXiv 1806.02643.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog, minimize
from scipy.special import logsumexp, softmax

from thalweg.core.errors import UsageError

Array = NDArray[np.float64]
_SLACK = 1e-9


@dataclass(frozen=True)
class AgentsAgainstAgents:
    """The maximum-entropy equilibrium of agents against agents.

    Attributes:
        weights: p, shape (agents,).
        ratings: A p: 0 for those that the equilibrium plays, less for the others.
    """

    weights: Array
    ratings: Array


@dataclass(frozen=True)
class AgentsAgainstTasks:
    """The maximum-entropy equilibrium of agents, who maximise, against tasks, which minimise.

    Attributes:
        agent_weights: p, shape (agents,).
        task_weights: q, shape (tasks,).
        agent_ratings: S q: at most the value.
        task_ratings: the value minus p S, by task: 0 for those that are played, less for easier
            ones.
        value: v.
    """

    agent_weights: Array
    task_weights: Array
    agent_ratings: Array
    task_ratings: Array
    value: float


def agents_against_agents(margins: ArrayLike) -> AgentsAgainstAgents:
    """Return the maximum-entropy p with ``A p <= 0``, ``sum p = 1``, ``p >= 0``.

    Args:
        margins: A, shape (agents, agents), antisymmetric: how far the row beats the column.

    Raises:
        UsageError: A is not antisymmetric or not finite.
    """
    a = np.asarray(margins, dtype=float)
    square = a.ndim == 2 and a.shape[0] == a.shape[1] and a.size > 0
    if not square or not np.isfinite(a).all() or not np.allclose(a, -a.T):
        raise UsageError("margins of agents over agents must be a finite antisymmetric matrix")
    p = _most_even(a, np.zeros(len(a)))
    return AgentsAgainstAgents(p, a @ p)


def agents_against_tasks(scores: ArrayLike) -> AgentsAgainstTasks:
    """Return the value v and the maximum-entropy p with ``p S >= v`` and q with ``S q <= v``.

    Args:
        scores: S, shape (agents, tasks), higher is better; comparable between tasks (`scaled`).

    Raises:
        UsageError: S is empty or not finite.
    """
    s = np.asarray(scores, dtype=float)
    if s.ndim != 2 or not s.size or not np.isfinite(s).all():
        raise UsageError("scores of agents on tasks must be a finite matrix")
    agents, tasks = s.shape
    game = linprog(
        np.append(np.zeros(agents), -1.0),
        A_ub=np.hstack([-s.T, np.ones((tasks, 1))]),
        b_ub=np.zeros(tasks),
        A_eq=[[*np.ones(agents), 0.0]],
        b_eq=[1.0],
        bounds=[(0, None)] * agents + [(None, None)],
    )
    value = -float(game.fun)
    p = _most_even(-s.T, np.full(tasks, -value))
    q = _most_even(s, np.full(agents, value))
    return AgentsAgainstTasks(p, q, s @ q, value - p @ s, value)


def scaled(scores: ArrayLike) -> Array:
    """Return scores with those of each task brought to [0, 1]; all 0 where they are equal."""
    s = np.asarray(scores, dtype=float)
    low, high = s.min(0), s.max(0)
    return (s - low) / np.where(high > low, high - low, 1.0)


def _most_even(rows: Array, bounds: Array) -> Array:
    """Return the distribution p of greatest entropy with ``rows p <= bounds``.

    What has to be 0 is found by linear programmes. On the rest the solution has the form
    ``p ~ exp(-rows' x)`` with ``x >= 0``, the least of ``logsumexp(-rows' x) + bounds x``.
    """
    scale = max(1.0, float(np.abs(rows).max()))
    rows, bounds = rows / scale, bounds / scale + _SLACK / 10
    played = np.array([_can_be_played(rows, bounds, i) for i in range(rows.shape[1])])
    inner = rows[:, played]

    def dual(x: Array) -> tuple[float, Array]:
        logits = -inner.T @ x
        value: Any = logsumexp(logits)
        return float(value) + float(bounds @ x), bounds - inner @ softmax(logits)

    x = _least(dual, len(bounds))
    p = np.zeros(rows.shape[1])
    p[played] = softmax(-inner.T @ x)
    return p


def _can_be_played(rows: Array, bounds: Array, i: int) -> bool:
    cost = np.zeros(rows.shape[1])
    cost[i] = -1.0
    found = linprog(
        cost,
        A_ub=rows,
        b_ub=bounds,
        A_eq=np.ones((1, len(cost))),
        b_eq=[1.0],
        bounds=[(0, None)] * len(cost),
    )
    return found.status == 0 and -found.fun > 1e-7


def _least(function: Callable[[Array], tuple[float, Array]], size: int) -> Array:
    found = minimize(
        function,
        np.zeros(size),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * size,
        options={"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-16, "gtol": 1e-12},
    )
    return found.x
