"""Average precision."""

import pytest
import torch

from thalweg.workload.average_precision import average_precision, mean_average_precision


def test_by_hand():
    scores, labels = torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([1.0, 0.0, 1.0, 0.0])
    assert float(average_precision(scores, labels)) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert float(average_precision(-scores, labels)) == pytest.approx(0.5 * 1 / 2 + 0.5 * 2 / 4)
    # All of one score: one threshold, precision 1/2.
    assert float(average_precision(torch.zeros(4), labels)) == pytest.approx(0.5)


def test_against_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    torch.manual_seed(0)
    for _ in range(20):
        scores = torch.randint(0, 8, (30,)).float()
        labels = torch.randint(0, 2, (30,)).float()
        labels[:2] = torch.tensor([0.0, 1.0])
        wanted = metrics.average_precision_score(labels.numpy(), scores.numpy())
        assert float(average_precision(scores, labels)) == pytest.approx(wanted, rel=1e-12)


def test_unknown_labels_and_tasks_without_both_are_left_out():
    nan = float("nan")
    scores = torch.tensor([[3.0, 3, 3], [2, 2, 2], [1, 1, 1]])
    labels = torch.tensor([[0.0, 1, nan], [1, 1, 1], [nan, nan, 0]])
    assert float(mean_average_precision(scores, labels)) == pytest.approx((0.5 + 1) / 2)
    assert mean_average_precision(scores, torch.ones(3, 3)).isnan()
