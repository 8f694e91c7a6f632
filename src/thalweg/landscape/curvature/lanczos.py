"""Lanczos' method with full re-orthogonalisation."""

import math
from typing import Protocol

import torch
from torch import Tensor

from thalweg.core.errors import UsageError


class Operator(Protocol):
    """A symmetric matrix by its products: a `Curvature`, or a dense tensor."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, n)."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """What products are computed in."""
        ...

    @property
    def device(self) -> torch.device:
        """Where products are."""
        ...

    def __matmul__(self, v: Tensor, /) -> Tensor:
        """Return the product with a vector."""
        ...


class Lanczos:
    r"""An orthonormal basis V of a Krylov space in which the matrix is tridiagonal.

    After m steps :math:`A V = V T + \beta_m v_{m+1} e_m^\top`, T with ``alphas`` on the diagonal
    and ``betas`` beside it. Each new vector is made orthogonal to all others, twice where rounding
    makes it necessary; so memory grows with the steps, by n entries each. Where the space closes
    (``beta`` is zero to rounding) a random vector goes on in its complement, and T falls apart
    into blocks.

    Args:
        operator: the matrix A.
        start: the first vector, of any length.
        random: draws vectors to go on with.

    Raises:
        UsageError: the start is zero or not finite.
    """

    def __init__(self, operator: Operator, start: Tensor, random: torch.Generator) -> None:
        self._operator, self._random = operator, random
        length = float(torch.linalg.vector_norm(start))
        if not 0 < length < float("inf"):
            raise UsageError("the first vector of Lanczos' method must be finite and not zero")
        self.alphas: list[float] = []
        self.betas: list[float] = []
        self._store = (start / length).unsqueeze(0)
        self._count = 1
        self._size = 0.0

    @property
    def steps(self) -> int:
        """Return m."""
        return len(self.alphas)

    @property
    def exhausted(self) -> bool:
        """Return whether the basis spans everything."""
        return self.steps == self._operator.shape[0]

    @property
    def basis(self) -> Tensor:
        """Return V, shape (n, m)."""
        return self._rows[: self.steps].mT

    @property
    def _rows(self) -> Tensor:
        return self._store[: self._count]

    @property
    def residual(self) -> float:
        """Return beta_m, 0 where the space closed."""
        return self.betas[-1]

    def matrix(self) -> Tensor:
        """Return T, shape (m, m), float64."""
        side = torch.tensor(self.betas[:-1], dtype=torch.float64)
        middle = torch.tensor(self.alphas, dtype=torch.float64)
        return torch.diag(middle) + torch.diag(side, 1) + torch.diag(side, -1)

    def step(self) -> None:
        """Take a step: one product.

        Raises:
            UsageError: a product is not finite.
        """
        v = self._rows[-1]
        w = self._operator @ v
        size = float(torch.linalg.vector_norm(w))
        if not math.isfinite(size):
            raise UsageError(
                "a product with the matrix is not finite: the loss has no second derivative at "
                "these weights that can be represented"
            )
        alpha = float(torch.dot(v, w))
        self._size = max(self._size, size)
        self.alphas.append(alpha)
        w = w.add(v, alpha=-alpha)
        if self.steps > 1:  # what is then left is small, and one pass over the basis removes it
            w.add_(self._rows[-2], alpha=-self.betas[-1])
        w = self._orthogonal(w)
        beta = float(torch.linalg.vector_norm(w))
        if beta <= 100 * torch.finfo(w.dtype).eps * self._size:
            beta = 0.0
        self.betas.append(beta)
        if not self.exhausted:
            if beta == 0:
                w = self._orthogonal(gaussian(self._operator, self._random))
            self._append(w / torch.linalg.vector_norm(w))

    def _append(self, v: Tensor) -> None:
        if self._count == len(self._store):
            more = min(self._count, self._operator.shape[0] - self._count)
            self._store = torch.cat([self._store, self._store.new_empty(more, len(v))])
        self._store[self._count] = v
        self._count += 1

    def _orthogonal(self, w: Tensor) -> Tensor:
        before = float(torch.linalg.vector_norm(w))
        for _ in range(2):
            w = torch.addmv(w, self._rows.mT, self._rows @ w, alpha=-1)
            after = float(torch.linalg.vector_norm(w))
            # Rounding leaves something of what was removed, which matters where that was most.
            if after > 0.7 * before:
                break
            before = after
        return w


def gaussian(operator: Operator, random: torch.Generator) -> Tensor:
    """Return a vector of standard normal numbers, shape (n,)."""
    drawn = torch.randn(operator.shape[0], generator=random, dtype=torch.float64)
    return drawn.to(operator.device, operator.dtype)


def signs(operator: Operator, random: torch.Generator) -> Tensor:
    """Return a vector of -1 and 1, equally likely, shape (n,)."""
    drawn = 2 * torch.randint(2, (operator.shape[0],), generator=random) - 1
    return drawn.to(operator.device, operator.dtype)
