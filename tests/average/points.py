"""Runs of averages over given points, for the tests of averages."""

import torch
from torch import nn


class Vector(nn.Module):
    """A model whose only weight is a vector in float64."""

    def __init__(self, size):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(size, dtype=torch.float64))


def walk(size, steps, seed=0):
    """Return the points of a random walk, (steps, size)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(steps, size, generator=generator, dtype=torch.float64).cumsum(0)


def follow(settings, points, losses=None, every=1):
    """Return the average after a run over points, and what it was after each of them.

    Args:
        settings: of the average.
        points: (steps, size).
        losses: validation losses, one after every ``every`` points.
        every: see losses.
    """
    model = Vector(points.shape[1])
    average = settings.attach(model)
    seen = []
    for step, point in enumerate(points):
        with torch.no_grad():
            model.w.copy_(point)
        average.update(step, len(points))
        if losses is not None and (step + 1) % every == 0 and average.monitors:
            average.evaluated(losses[step // every])
        seen.append(average.weights()["w"])
    return average, torch.stack(seen)
