"""Intervals, probabilities and tests against enumeration, scipy and simulated races."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from thalweg.race import score

NAN = -np.inf


def rng(seed=0):
    return np.random.default_rng(seed)


def test_scores_point_up_and_put_divergence_last():
    metrics = [1.0, None, math.nan, math.inf, 3.0]
    assert score.as_scores(metrics, True).tolist() == [1.0, NAN, NAN, NAN, 3.0]
    assert score.as_scores(metrics, False).tolist() == [-1.0, NAN, NAN, NAN, -3.0]


def test_probability_of_improvement_of_the_published_case():
    x = [[1, 2], [2, 2], [1, 1], [2, 1]]
    y = [[1, 1], [2, 2], [3, 3]]
    assert score.probability_of_improvement(x, y) == pytest.approx(1 / 3, abs=1e-15)
    assert score.probability_of_improvement(y, x) == pytest.approx(2 / 3, abs=1e-15)


def test_diverged_runs_lose_and_tie_with_each_other():
    assert score.probability_of_improvement([1.0, NAN], [NAN, NAN]) == 0.75
    with pytest.raises(ValueError, match="numbers of tasks"):
        score.probability_of_improvement([[1.0, 2.0]], [[1.0]])


def test_bootstrap_of_a_mean_equals_enumeration():
    values = np.array([0.1, 0.4, 0.45, 0.9, 2.0])
    means = [values[list(draw)].mean() for draw in itertools.product(range(5), repeat=5)]
    exact = np.quantile(means, [0.025, 0.975])
    assert score.bootstrap_mean(values, rng(), 100_000) == pytest.approx(exact, abs=0.02)
    assert score.bootstrap_mean([3.0, 3.0], rng()) == (3.0, 3.0)
    assert score.bootstrap_mean(values, rng(1)) == score.bootstrap_mean(values, rng(1))


def test_bootstrap_of_the_probability_equals_enumeration():
    x, y = [[1.0], [3.0], [5.0]], [[2.0], [3.0], [4.5]]
    draws = list(itertools.product(range(3), repeat=3))
    exact = [
        score.probability_of_improvement([x[i] for i in left], [y[i] for i in right])
        for left in draws
        for right in draws
    ]
    found = score.probability_interval(x, y, rng(), 200_000)
    assert found == pytest.approx(np.quantile(exact, [0.025, 0.975]), abs=1e-12)


def test_bootstrap_of_the_probability_resamples_tasks_independently():
    x, y = rng(3).normal(size=(6, 40)) + 0.3, rng(4).normal(size=(5, 40))
    low, high = score.probability_interval(x, y, rng(), 4000)
    draw = rng(5)
    slow = []
    for _ in range(1500):
        a, b = draw.integers(6, size=(6, 40)), draw.integers(5, size=(5, 40))
        left, right = np.take_along_axis(x, a, 0), np.take_along_axis(y, b, 0)
        slow.append(score.probability_of_improvement(left, right))
    assert (low, high) == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.008)


@pytest.mark.parametrize("n", [3, 6])
def test_sign_flips_equal_enumeration(n):
    differences = rng(n).normal(0.5, 1, size=n)
    sums = [
        abs(sum(sign * value for sign, value in zip(signs, differences, strict=True)))
        for signs in itertools.product([1, -1], repeat=n)
    ]
    exact = np.mean([value >= abs(differences.sum()) - 1e-12 for value in sums])
    assert score.sign_flip(differences, rng()) == exact


def test_sign_flips_of_many_seeds_are_sampled():
    assert score.sign_flip(np.ones(3), rng()) == 0.25
    assert 0 < score.sign_flip(np.ones(30), rng()) < 1e-3
    assert score.sign_flip(np.array([1.0, -1.0] * 10), rng()) == 1.0


def test_the_test_is_the_more_careful_of_paired_and_unpaired():
    noise = rng(8).normal(size=(3, 6))
    alike = noise[0] + 0.1 * noise[1], noise[0] + 0.1 * noise[2] + 1.0
    found = score.compare(*alike, rng())
    welch = stats.ttest_ind(*alike, equal_var=False)
    assert found.p_value == pytest.approx(welch.pvalue, rel=1e-12)
    interval = welch.confidence_interval(0.95)
    assert found.margin == pytest.approx((interval.high - interval.low) / 2, rel=1e-12)
    assert found.direction == -1
    opposed = noise[0], 2.0 - noise[0]
    found = score.compare(*opposed, rng())
    difference = opposed[0] - opposed[1]
    t = abs(difference.mean()) / (difference.std(ddof=1) / math.sqrt(6))
    assert found.p_value == pytest.approx(2 * stats.t.sf(t, 10), rel=1e-9)
    assert found.p_value > stats.ttest_ind(*opposed, equal_var=False).pvalue


def test_equal_runs_are_a_tie_and_equal_accuracies_no_certainty():
    same = np.full(3, 0.95)
    found = score.compare(same, same, rng(), 0.01)
    assert (found.p_value, found.probability, found.direction) == (1.0, 0.5, 0)
    assert not found.supported
    zero = np.zeros(3)
    assert score.compare(zero, zero, rng()).p_value == 1.0
    rounding = score.compare(same, same + 1e-9, rng(), 1e-9)
    assert rounding.p_value > 0.9
    step = score.compare(same + 0.01, same, rng(), 0.01)
    assert 0.01 < step.p_value < 0.05
    clear = score.compare(same + 0.05, same, rng(), 0.01)
    assert clear.p_value < step.p_value / 10


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_seeds_separate_nothing(n):
    found = score.compare(np.arange(n) * 0.01, np.arange(n) * 0.01 + 99, rng())
    assert found.p_value == 1.0
    assert found.margin is None


def test_a_diverged_run_counts_as_the_worst_of_the_two():
    good, partly = np.array([0.95, 0.951, 0.949]), np.array([0.90, 0.91, NAN])
    found = score.compare(good, partly, rng())
    imputed = score.compare(good, np.array([0.90, 0.91, 0.90]), rng())
    assert found.p_value == imputed.p_value
    assert found.probability == 1.0
    assert found.margin is None
    better_but_shaky = np.array([0.96, 0.961, NAN])
    found = score.compare(better_but_shaky, good, rng())
    assert found.p_value > 0.05


def test_all_runs_diverged_against_none():
    good, gone = np.array([0.5, 0.6, 0.4]), np.full(3, NAN)
    assert score.compare(good, gone, rng()).p_value == 2 / 4**3
    assert score.compare(good, gone, rng()).direction == 1
    assert score.compare(gone, good, rng()).direction == -1
    assert score.compare(gone, gone, rng()).p_value == 1.0


def test_resolution_is_the_smallest_step_seen():
    scores = [np.array([0.5, 0.75, NAN]), np.array([0.75, 0.8125])]
    assert score.resolution_of(scores) == 0.0625
    assert score.resolution_of([np.array([1.0, 1.0])]) == 0.0
