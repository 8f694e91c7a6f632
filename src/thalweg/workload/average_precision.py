"""How well scores put the positive samples first."""

import torch
from torch import Tensor


def average_precision(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the sum over thresholds of precision times the gain in recall, 0-d, float64.

    The thresholds are the distinct scores, from the highest down; samples of one score come in
    together, so that their order makes no difference.

    Args:
        scores: higher for what is more probably positive (n,).
        labels: 1 or 0 (n,), at least one of each.
    """
    scores, order = scores.double().sort(descending=True)
    positive = labels.double()[order].cumsum(0)
    last = torch.ones_like(scores, dtype=torch.bool)
    last[:-1] = scores[1:] != scores[:-1]
    count = torch.arange(1, len(scores) + 1, dtype=torch.float64)[last]
    found = positive[last]
    recall = found / found[-1]
    gain = recall.diff(prepend=recall.new_zeros(1))
    return (gain * found / count).sum()


def mean_average_precision(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over the tasks that have a positive and a negative sample, 0-d, float64.

    Args:
        scores: (n, tasks).
        labels: 1, 0, or NaN for what is not known (n, tasks).
    """
    values = []
    for task_scores, task_labels in zip(scores.unbind(1), labels.unbind(1), strict=True):
        known = ~task_labels.isnan()
        wanted = task_labels[known]
        if 0 < float(wanted.sum()) < len(wanted):
            values.append(average_precision(task_scores[known], wanted))
    return torch.stack(values).mean() if values else torch.tensor(float("nan"))
