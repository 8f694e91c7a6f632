"""The expected best of some trials against enumeration and simulation."""

import itertools

import numpy as np
import pytest

from thalweg.race.best_of import expected_best, sensitivity, shares


@pytest.mark.parametrize("k", range(1, 7))
def test_it_is_the_mean_over_all_subsets(k):
    values = np.array([0.3, 0.9, 0.1, 0.5, 0.5, -2.0])
    exact = np.mean([max(subset) for subset in itertools.combinations(values, k)])
    assert expected_best(values, k) == pytest.approx(exact, abs=1e-14)


def test_it_is_unbiased():
    draws = np.random.default_rng(0).exponential(size=(40_000, 8))
    harmonic = 1 + 1 / 2 + 1 / 3 + 1 / 4  # the expected greatest of four
    assert expected_best(draws, 4).mean() == pytest.approx(harmonic, abs=0.01)


def test_shares_are_a_distribution_and_know_their_range():
    assert shares(9, 4).sum() == pytest.approx(1.0, abs=1e-15)
    for n, k in ((3, 0), (3, 4)):
        with pytest.raises(ValueError, match="between 1 and n"):
            shares(n, k)


def test_sensitivity_speaks_in_values_of_the_metric():
    scores = [-0.5, -0.3, -0.4, -0.9, -0.35, -0.6]
    found = sensitivity(scores, False, np.random.default_rng(1))
    assert [one.trials for one in found] == [1, 2, 4, 6]
    assert found[0].value == pytest.approx(-np.mean(scores))
    assert found[-1].value == pytest.approx(0.3)
    assert found[-1].low is None
    assert all(one.low <= one.value <= one.high for one in found[:-1])
    assert [one.value for one in found] == sorted((one.value for one in found), reverse=True)


def test_the_interval_covers():
    draw = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        half = sensitivity(list(draw.normal(size=16)), True, draw)[2]
        assert half.trials == 4
        hits += half.low <= 1.0294 <= half.high  # the expected greatest of four normals
    assert hits > 170
