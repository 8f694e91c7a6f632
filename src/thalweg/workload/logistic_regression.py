"""`logistic-regression`: a convex problem whose optimum is known with a certificate."""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from thalweg.core.errors import ThalwegError, UsageError
from thalweg.core.seeds import generator
from thalweg.workload.workload import Workload

FACTS: dict[str, Any] = {
    "name": "logistic-regression",
    "title": "Logistic regression",
    "description": "Regularised logistic regression on 1,000 samples with 30 features of very "
    "different scales, one in ten labels turned; the optimum is computed to a certified accuracy.",
    "architecture": "One weight for each feature, from zero: 30 parameters.",
    "loss_name": "log loss + 0.001 |w|^2 / 2",
    "metric_name": "loss above the minimum",
    "higher_is_better": False,
    "batch_size": 50,
    "steps": 400,
    "evaluate_every": 20,
    "data_source": "made by a seeded generator",
    "licence": "none needed",
}

Samples = tuple[Tensor, Tensor]


class Logistic(nn.Module):
    """Features (n, d) to logits (n,)."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(dimension))

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits."""
        return features @ self.w


class Problem:
    r"""The loss :math:`f(w) = \mathrm{mean}_i \log(1 + e^{-y_i x_i^T w}) + \tfrac\mu2 |w|^2`.

    Its minimum is found by Newton's method in float64. f is mu-strongly convex, so at any w its
    gradient certifies how far the minimum is (Nesterov, "Introductory Lectures on Convex
    Optimization", 2004, theorem 2.1.10): :math:`f(w) - f^* \le |\nabla f(w)|^2 / (2 \mu)` and
    :math:`|w - w^*| \le |\nabla f(w)| / \mu`.

    Args:
        features: x (n, d), float64.
        labels: y (n,), 0 or 1.
        decay: mu, above 0.

    Raises:
        ThalwegError: Newton's method came to no certificate of 1e-16.

    Attributes:
        optimum: where the minimum is (d,), float64.
        minimum: f there.
        certificate: how much f is above the true minimum there, at most.
    """

    def __init__(self, features: Tensor, labels: Tensor, decay: float) -> None:
        self.features, self.labels, self.decay = features, labels, decay
        w = features.new_zeros(features.shape[1])
        for _ in range(100):
            chance = (features @ w).sigmoid()
            gradient = self.gradient(w)
            self.certificate = float(gradient.square().sum() / (2 * decay))
            if self.certificate <= 1e-24:
                break
            weighted = features * (chance * (1 - chance) / len(features))[:, None]
            hessian = features.T @ weighted + decay * torch.eye(len(w), dtype=w.dtype)
            step = torch.linalg.solve(hessian, gradient)
            size = 1.0
            # Halving until it falls enough makes Newton's method converge from anywhere.
            while size > 1e-8 and self(w - size * step) > self(w) - 0.25 * size * step @ gradient:
                size /= 2
            w = w - size * step
        if self.certificate > 1e-16:
            raise ThalwegError(
                "the optimum of the logistic regression is certified to "
                f"{self.certificate:.1e} only; a larger decay makes it easier"
            )
        self.optimum, self.minimum = w, float(self(w))

    def __call__(self, w: Tensor) -> Tensor:
        """Return f, 0-d."""
        return self.of_each(w).mean()

    def gradient(self, w: Tensor) -> Tensor:
        """Return the gradient of f (d,)."""
        error = (self.features @ w).sigmoid() - self.labels
        return self.features.T @ error / len(error) + self.decay * w

    def of_each(self, w: Tensor) -> Tensor:
        """Return f with the mean over samples left out (n,)."""
        losses = F.binary_cross_entropy_with_logits(
            self.features @ w, self.labels, reduction="none"
        )
        return losses + 0.5 * self.decay * w.square().sum()


def logistic_regression(
    samples: int = 1000, dimension: int = 30, decay: float = 1e-3, condition: float = 100.0
) -> Workload:
    """Return the workload.

    Args:
        samples: how many, from the batch size, 50.
        dimension: features of each, from 1.
        decay: mu, above 0.
        condition: the largest standard deviation of a feature divided by the smallest.

    Raises:
        UsageError: a number is out of range.
    """
    if samples < FACTS["batch_size"] or dimension < 1 or not decay > 0 or condition < 1:
        raise UsageError(
            f"logistic regression needs samples >= {FACTS['batch_size']}, dimension >= 1, "
            f"decay > 0 and condition >= 1; found {samples}, {dimension}, {decay}, {condition}"
        )
    draw = generator(0, "logistic-regression")
    scales = torch.logspace(0, -1, dimension, base=condition, dtype=torch.float64)
    features = torch.randn(samples, dimension, dtype=torch.float64, generator=draw) * scales
    truth = torch.randn(dimension, dtype=torch.float64, generator=draw) / scales
    labels = features @ truth > 0
    labels ^= torch.rand(samples, generator=draw) < 0.1
    problem = Problem(features.float().double(), labels.double(), decay)

    def loss(model: nn.Module, batch: Samples) -> Tensor:
        w: Any = model.w
        inputs, wanted = batch
        losses = F.binary_cross_entropy_with_logits(model(inputs), wanted)
        return losses + 0.5 * decay * w.square().sum()

    def metric(model: nn.Module, batch: Tensor) -> Tensor:
        w: Any = model.w
        return problem(w.double().cpu()) - problem.minimum

    return Workload(
        model=lambda: Logistic(dimension),
        train=(features.float(), labels.float()),
        validation=torch.zeros(1, 1),
        loss=loss,
        metric=metric,
        **FACTS,
    )
