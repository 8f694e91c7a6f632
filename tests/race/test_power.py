"""Power against simulation and against itself."""

import numpy as np
import pytest
from scipy import stats

from thalweg.race.power import pooled_deviation, power, seeds_needed, separable_gap
from thalweg.race.score import compare


@pytest.mark.parametrize(("seeds", "gap"), [(3, 3.0), (5, 2.0), (10, 1.3)])
def test_power_of_few_seeds_is_how_often_comparisons_find_the_gap(seeds, gap):
    draw = np.random.default_rng(100 + seeds)
    found = 0
    for _ in range(600):
        one = compare(
            0.5 * draw.normal(gap, 1, seeds), 0.5 * draw.normal(0, 1, seeds), draw, resamples=500
        )
        found += one.p_value < 0.05 and one.supported
    assert power(gap * 0.5, 0.5, seeds) == pytest.approx(found / 600, abs=0.06)
    assert power(-gap * 0.5, 0.5, seeds) == power(gap * 0.5, 0.5, seeds)


@pytest.mark.parametrize(("seeds", "level"), [(30, 0.05), (100, 0.025)])
def test_power_of_many_seeds_is_a_little_below_that_of_students_test(seeds, level):
    gap = 4.0 / np.sqrt(seeds)
    shift, freedom = gap * np.sqrt(seeds / 2), 2 * (seeds - 1)
    limit = stats.t.ppf(1 - level / 2, freedom)
    exact = stats.nct.sf(limit, freedom, shift) + stats.nct.cdf(-limit, freedom, shift)
    assert exact - 0.09 < power(gap, 1.0, seeds, level) < exact + 0.02


def test_leaving_the_bootstrap_out_changes_little():
    assert power(0.9, 1.0, 20) == pytest.approx(power(0.9, 1.0, 21), abs=0.09)


def test_without_a_gap_power_is_at_most_the_level():
    assert power(0.0, 1.0, 30) < 0.06
    assert power(0.0, 1.0, 5) < 0.06
    assert power(1e6, 1.0, 5) == 1.0
    assert power(9.0, 1.0, 2) == 0.0


def test_the_separable_gap_has_the_wanted_power():
    gap = separable_gap(0.02, 5)
    assert power(gap, 0.02, 5) == pytest.approx(0.8, abs=0.01)
    assert separable_gap(0.02, 10) < gap < separable_gap(0.02, 3)
    assert separable_gap(0.02, 2) is None


def test_the_seeds_needed_are_about_the_fewest():
    n = seeds_needed(1.0, 1.0)
    assert 17 <= n <= 24  # 17 by Student's test alone
    assert power(1.0, 1.0, n) >= 0.8
    assert power(1.0, 1.0, n - 2) < 0.82
    assert seeds_needed(100.0, 1.0) == 3
    assert 64 <= seeds_needed(0.5, 1.0) < 80  # 64 by Student's test alone
    assert seeds_needed(1e-4, 1.0) is None


def test_deviations_are_pooled_over_entrants_that_finished():
    a, b = np.array([1.0, 2.0, 3.0]), np.array([5.0, 7.0])
    assert pooled_deviation([a, b]) == pytest.approx(np.sqrt((2 + 2) / 3))
    assert pooled_deviation([a, np.array([1.0, -np.inf])]) == pytest.approx(1.0)
    assert pooled_deviation([np.ones(3), np.ones(1)]) is None
    assert pooled_deviation([]) is None
