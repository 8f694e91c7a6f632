"""A task for Thalweg: two intertwined spirals and a small network that tells them apart.

Replace the four functions by your own, then let training algorithms race on it:

    thalweg race my_task.py

Nothing else in this file is special: import what you like, from packages or from files beside it.
"""

import torch
from torch import nn

# Settings, all optional: leave a line out to get the default.
metric_name = "accuracy"  # what the metric is called in the report
higher_is_better = True  # False for an error or a loss
batch_size = 64  # samples in a training step
steps = 300  # how long each training run is
# target = 0.95       # the metric that counts as solved; by default, AdamW decides
# evaluate_every = 10  # steps between two evaluations; by default, a twentieth of the steps


def model():
    """Build a new model. Its random initial weights are seeded for you."""
    return nn.Sequential(
        nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)
    )


def data():
    """Return training data and validation data.

    Each is a tensor, a tuple or dict of tensors (the first dimension counts the samples), a
    dataset with len() and [i], or a DataLoader. Batches have the same form.
    """
    return spirals(4000, seed=0), spirals(1000, seed=1)


def loss(model, batch):
    """Return the mean loss of a batch: what training makes small."""
    points, labels = batch
    return nn.functional.cross_entropy(model(points), labels)


def metric(model, batch):
    """Return what you care about, as the mean over the batch or one value for each sample.

    The model is in evaluation mode, and no gradient is recorded.
    """
    points, labels = batch
    return (model(points).argmax(dim=1) == labels).float().mean()


def spirals(count, seed):
    """Make noisy points on two spirals, (count, 2), and which spiral each is on, (count,)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    distance = torch.rand(count, generator=generator).sqrt()
    angle = 3 * torch.pi * distance + torch.pi * labels
    points = distance[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    return points + 0.03 * torch.randn(count, 2, generator=generator), labels
