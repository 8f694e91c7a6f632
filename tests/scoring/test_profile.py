"""AlgoPerf's rules on small tables, and its scores against integrals."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.integrate import quad

from thalweg.scoring import (
    GRID,
    exact_score,
    grid_score,
    performance_profile,
    ratios,
    standing_times,
)
from thalweg.scoring.profile import speed_up

INF, NAN = math.inf, math.nan
TIMES = st.one_of(st.floats(0.5, 20), st.sampled_from([INF, NAN, 1.0, 2.0]))
TABLES = arrays(float, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=TIMES)


def standing(table: object) -> list[list[float]]:
    return standing_times(table, ["a", "b", "a_x"], ["a", "b"], {"a_x": "a"}).tolist()


def test_who_missed_the_variant_missed_its_base() -> None:
    assert standing([[1, 1, INF], [2, 2, 3]]) == [[INF, 1], [2, 2]]
    assert standing([[1, 1, NAN], [2, 2, 3]]) == [[INF, 1], [2, 2]]


def test_a_variant_without_its_base_does_not_count() -> None:
    # The first is 5 times as fast on the variant, which would put the second out of the race.
    assert standing([[INF, 1, 1], [2, 2, 5]]) == [[INF, 1], [2, 2]]
    assert standing([[NAN, 1, 1], [2, 2, 5]]) == [[INF, 1], [2, 2]]


def test_times_above_four_times_the_best_are_misses() -> None:
    assert standing([[1, 1, 1], [4, 4.1, 1]]) == [[1, 1], [4, INF]]
    assert standing([[1, 1, 1], [1, 1, 4.1]]) == [[1, 1], [INF, 1]]


def test_the_best_of_the_base_is_taken_before_variants_remove_it() -> None:
    # The first is out on "a" by its variant, and has put the second out before.
    assert standing([[1, 1, INF], [5, 1, 1]]) == [[INF, 1], [INF, 1]]


def test_nobody_solved() -> None:
    assert ratios([[INF, 1], [NAN, 2]]).tolist() == [[INF, 1], [INF, 2]]
    assert grid_score(ratios([[INF, 1], [NAN, 2]]))[0] == 0.5


def test_equals_are_both_fastest() -> None:
    np.testing.assert_array_equal(grid_score(ratios([[3, 7], [3, 7]])), [1, 1])


@given(TABLES)
def test_the_grid_is_the_trapezoid_rule(table: np.ndarray) -> None:
    relative = ratios(table)
    taus = np.linspace(1, 4, GRID)
    expected = np.trapezoid(performance_profile(relative, taus), taus) / 3
    np.testing.assert_allclose(grid_score(relative), expected, rtol=0, atol=1e-13)


@given(TABLES)
def test_the_grid_is_near_the_integral(table: np.ndarray) -> None:
    relative = ratios(table)
    gap = np.abs(grid_score(relative) - exact_score(relative)).max()
    assert gap <= 0.5 / (GRID - 1) + 1e-12


@given(arrays(float, (2, 3), elements=st.floats(1.05, 3.9)))
def test_the_exact_score_is_the_integral(table: np.ndarray) -> None:
    def height(tau: float) -> float:
        return float(performance_profile(table, [tau])[0, 0])

    area = quad(height, 1, 4, points=np.sort(table[0]), limit=200)[0]
    assert exact_score(table)[0] == pytest.approx(area / 3, abs=1e-9)


@given(TABLES, st.floats(0.1, 10))
def test_a_workload_may_be_in_other_units(table: np.ndarray, factor: float) -> None:
    other = table.copy()
    other[:, 0] *= factor
    np.testing.assert_allclose(
        exact_score(ratios(other)), exact_score(ratios(table)), rtol=0, atol=1e-12
    )


@given(arrays(float, (3, 4, 3), elements=TIMES))
def test_stacks_are_scored_one_by_one(tables: np.ndarray) -> None:
    found = standing_times(tables, ["a", "b", "a_x"], ["a", "b"], {"a_x": "a"})
    for one, of in zip(found, tables, strict=True):
        np.testing.assert_array_equal(one, np.array(standing(of)))
    np.testing.assert_array_equal(grid_score(ratios(found))[1], grid_score(ratios(found[1])))


def test_speed_up() -> None:
    assert speed_up([1, 2], [2, 4], [9, 9]) == pytest.approx(0.5)
    assert speed_up([1, INF], [1, 5], [9, 9]) == pytest.approx(math.sqrt(2))
    assert speed_up([1, INF], [1, 31 / 3], [27, 30]) == pytest.approx(math.sqrt(3))
