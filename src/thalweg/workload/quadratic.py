"""`quadratic`: a quadratic bowl whose every number is known, for tests and demonstrations."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.core.seeds import generator
from thalweg.workload.workload import Workload

FACTS: dict[str, Any] = {
    "name": "quadratic",
    "title": "Quadratic bowl",
    "description": "The minimum of x A x / 2 in 20 dimensions, with eigenvalues of A from 0.01 "
    "to 1, from gradients with noise.",
    "architecture": "One vector of 20 parameters, started at random where the loss is 1.",
    "loss_name": "x A x / 2 + noise x",
    "metric_name": "loss above the minimum",
    "higher_is_better": False,
    "batch_size": 16,
    "steps": 100,
    "evaluate_every": 5,
    "data_source": "made by a seeded generator",
    "licence": "none needed",
}


class Bowl(nn.Module):
    r"""The loss :math:`\tfrac{1}{2} x^T A x + \bar n^T x` for a batch of noise vectors.

    Args:
        matrix: A, symmetric and positive definite (d, d), or its eigenvalues (d,) if A is
            diagonal.
    """

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)
        start = torch.randn(matrix.shape[0], dtype=matrix.dtype)
        with torch.no_grad():
            self.x = nn.Parameter(start / self._height(start).sqrt())

    def forward(self, noise: Tensor) -> Tensor:
        """Return the loss, 0-d, for noise (n, d)."""
        return self._height(self.x) + noise.mean(0) @ self.x

    def _height(self, x: Tensor) -> Tensor:
        matrix: Any = self.matrix
        return 0.5 * (matrix * x * x).sum() if matrix.ndim == 1 else 0.5 * x @ (matrix @ x)


def quadratic(
    dimension: int = 20,
    condition: float = 100.0,
    noise: float = 0.1,
    rotated: bool = False,
    dtype: torch.dtype = torch.float32,
    spectrum: Sequence[float] | None = None,
    curved_noise: bool = False,
) -> Workload:
    """Return the workload.

    Args:
        dimension: the number of parameters, from 1.
        condition: the largest eigenvalue, 1, divided by the smallest; those between are spaced
            evenly in their logarithm.
        noise: standard deviation of each sample's gradient, in every coordinate. Over the whole
            training data the noise sums to zero, so the minimum is at zero.
        rotated: whether A is rotated away from the coordinate axes.
        dtype: of the parameters.
        spectrum: the eigenvalues themselves, above 0, in place of dimension and condition.
        curved_noise: whether the variance of the noise along each eigenvector is ``noise`` squared
            times the eigenvalue, as it is near the minimum of a model that fits well.

    Raises:
        UsageError: a number is out of range.
    """
    if dimension < 1 or condition < 1 or noise < 0:
        raise UsageError(
            "the quadratic needs dimension >= 1, condition >= 1 and noise >= 0; found "
            f"dimension={dimension}, condition={condition}, noise={noise}"
        )
    eigenvalues = _spaced(dimension, condition) if spectrum is None else _given(spectrum)
    dimension = len(eigenvalues)
    samples = torch.randn(
        1024, dimension, dtype=torch.float64, generator=generator(0, "quadratic", "noise")
    )
    samples = noise * (samples - samples.mean(0))
    if curved_noise:
        samples = samples * eigenvalues.sqrt()
    matrix = eigenvalues
    if rotated:
        gaussian = torch.randn(
            dimension, dimension, dtype=torch.float64, generator=generator(0, "quadratic", "axes")
        )
        axes, _ = torch.linalg.qr(gaussian)
        matrix = axes @ torch.diag(eigenvalues) @ axes.T
        matrix = (matrix + matrix.T) / 2
        if curved_noise:
            samples = samples @ axes.T
    matrix, samples = matrix.to(dtype), samples.to(dtype)
    return Workload(
        model=lambda: Bowl(matrix.clone()),
        train=samples,
        validation=torch.zeros(1, dimension, dtype=dtype),
        loss=_loss,
        metric=_loss,
        **FACTS,
    )


def _loss(model: nn.Module, noise: Tensor) -> Tensor:
    return model(noise)


def _spaced(dimension: int, condition: float) -> Tensor:
    exponents = torch.linspace(-1, 0, dimension, dtype=torch.float64) if dimension > 1 else 0
    return torch.atleast_1d(torch.as_tensor(condition, dtype=torch.float64) ** exponents)


def _given(spectrum: Sequence[float]) -> Tensor:
    eigenvalues = torch.as_tensor(spectrum, dtype=torch.float64)
    if (
        eigenvalues.ndim != 1
        or not len(eigenvalues)
        or not bool(((eigenvalues > 0) & eigenvalues.isfinite()).all())
    ):
        raise UsageError(
            "the spectrum of the quadratic needs finite eigenvalues above 0, one at least; found "
            f"{spectrum}"
        )
    return eigenvalues
