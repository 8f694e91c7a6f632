"""`noisy-quadratic`: a quadratic bowl whose gradients are as noisy as it is steep."""

import dataclasses
from typing import Any

from thalweg.workload.quadratic import quadratic
from thalweg.workload.workload import Workload

FACTS: dict[str, Any] = {
    "name": "noisy-quadratic",
    "title": "Noisy quadratic",
    "description": "The minimum of x A x / 2 in 100 dimensions, the i-th eigenvalue of A being "
    "1/i, from gradients whose noise has the covariance A.",
    "architecture": "One vector, started at random where the loss is 1: 100 parameters.",
    "loss_name": "x A x / 2 + noise x",
    "metric_name": "loss above the minimum",
    "higher_is_better": False,
    "batch_size": 16,
    "steps": 300,
    "evaluate_every": 15,
    "data_source": "made by a seeded generator",
    "licence": "none needed",
}


def noisy_quadratic(dimension: int = 100, noise: float = 1.0) -> Workload:
    """Return the workload.

    The model of Zhang et al., "Which Algorithmic Choices Matter at Which Batch Sizes? Insights
    From a Noisy Quadratic Model", 2019: how far down training comes is decided by the learning
    rate's noise, along each eigenvector for itself. With gradient descent at the learning rate a
    and batches of B, the mean square of a coordinate with eigenvalue h goes from v to
    ``(1 - a h)^2 v + a^2 h noise^2 / B`` in a step.

    Args:
        dimension: the number of parameters, from 1.
        noise: standard deviation of the noise where the eigenvalue is 1.

    Raises:
        UsageError: a number is out of range.
    """
    bowl = quadratic(
        noise=noise, spectrum=[1 / i for i in range(1, dimension + 1)], curved_noise=True
    )
    return dataclasses.replace(bowl, **FACTS)
