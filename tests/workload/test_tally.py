"""Metrics over batches."""

import dataclasses

import pytest
import torch

from thalweg import train
from thalweg.core.errors import UsageError
from thalweg.workload import check
from thalweg.workload.quadratic import quadratic
from thalweg.workload.tally import Tally


def root_mean_square(rows):
    return rows.square().mean().sqrt()


def with_rows(combine=root_mean_square, metric=None):
    return dataclasses.replace(
        quadratic(),
        validation=torch.arange(1.0, 6.0)[:, None],
        metric=metric or (lambda model, batch: batch[:, 0]),
        combine=combine,
        batch_size=2,
    )


def test_means_weigh_samples():
    tally = Tally(quadratic())
    tally.add(1.0, 3)
    tally.add(torch.tensor([5.0]), 1)
    tally.add(torch.tensor([0.0, 4.0]), 2)
    assert tally.result() == pytest.approx((3 + 5 + 4) / 6)


def test_rows_are_combined_over_all_batches():
    result = train.fit(with_rows(), "gd(lr=0.1)", steps=1)
    assert result.final_metric == pytest.approx((55 / 5) ** 0.5, rel=1e-12)
    check(with_rows())


def test_a_mean_with_combine_is_refused():
    with pytest.raises(UsageError, match=r"row for each of the batch's 2 samples; found a tensor"):
        check(with_rows(metric=lambda model, batch: batch.mean()))
    with pytest.raises(UsageError, match="found float"):
        check(with_rows(metric=lambda model, batch: 1.0))


def test_what_combine_returns_is_checked():
    with pytest.raises(UsageError, match=r"combine\(\) must return one number; found a tensor"):
        check(with_rows(combine=lambda rows: rows))
    with pytest.raises(UsageError, match=r"combine\(rows\) failed"):
        check(with_rows(combine=lambda rows: rows[99]))
    check(with_rows(combine=lambda rows: float("nan")))  # it may need more than a batch
    with pytest.raises(UsageError, match="combine must be a function"):
        with_rows(combine=3)


def test_no_batch():
    for task in (quadratic(), with_rows()):
        with pytest.raises(UsageError, match="yield no batch"):
            Tally(task).result()
