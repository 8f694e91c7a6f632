"""Power against simulation and against itself."""

import numpy as np
import pytest
from scipy import stats

from thalweg.race.power import pooled_deviation, power, seeds_needed, separable_gap


@pytest.mark.parametrize(("seeds", "level"), [(3, 0.05), (5, 0.05), (10, 0.025)])
def test_power_is_what_simulated_tests_find(seeds, level):
    draw = np.random.default_rng(seeds)
    x, y = draw.normal(1.6, 1.0, (20_000, seeds)), draw.normal(0.0, 1.0, (20_000, seeds))
    seen = np.mean(stats.ttest_ind(x, y, axis=1).pvalue < level)
    assert power(0.8, 0.5, seeds, level) == pytest.approx(seen, abs=0.012)
    assert power(-0.8, 0.5, seeds, level) == power(0.8, 0.5, seeds, level)


def test_without_a_gap_power_is_the_level():
    assert power(0.0, 1.0, 5, 0.05) == pytest.approx(0.05, abs=1e-4)
    assert power(1e6, 1.0, 5) == 1.0
    assert power(9.0, 1.0, 2) == 0.0


def test_the_separable_gap_has_the_wanted_power():
    gap = separable_gap(0.02, 5)
    assert power(gap, 0.02, 5) == pytest.approx(0.8, abs=1e-9)
    assert separable_gap(0.02, 10) < gap < separable_gap(0.02, 3)
    assert separable_gap(0.02, 2) is None


def test_the_seeds_needed_are_the_fewest():
    n = seeds_needed(1.0, 1.0)
    assert n == 17  # as tabled for d = 1 at 5 %, two-sided
    assert power(1.0, 1.0, n) >= 0.8 > power(1.0, 1.0, n - 1)
    assert seeds_needed(100.0, 1.0) == 3
    assert seeds_needed(1e-4, 1.0) is None


def test_deviations_are_pooled_over_entrants_that_finished():
    a, b = np.array([1.0, 2.0, 3.0]), np.array([5.0, 7.0])
    assert pooled_deviation([a, b]) == pytest.approx(np.sqrt((2 + 2) / 3))
    assert pooled_deviation([a, np.array([1.0, -np.inf])]) == pytest.approx(1.0)
    assert pooled_deviation([np.ones(3), np.ones(1)]) is None
    assert pooled_deviation([]) is None
