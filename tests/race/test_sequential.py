"""Looking again and again keeps the level, and finds what is clear early."""

import numpy as np
import pytest

from thalweg.core.errors import UsageError
from thalweg.race.score import compare, t_test
from thalweg.race.sequential import compare_at, looks, parse_seeds, weights


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("text", "found"), [(6, (6, 6)), ("6", (6, 6)), ("3..10", (3, 10)), ("auto", (3, 10))]
)
def test_seeds_in_words(text, found):
    assert parse_seeds(text) == found


@pytest.mark.parametrize("text", ["", "0", "-3", "2..5", "5..5", "6..3", "3..", "a..b", "3..5..7"])
def test_seeds_that_make_no_sense(text):
    with pytest.raises(UsageError, match="found"):
        parse_seeds(text)


def test_looks_grow_and_their_weights_share_the_level():
    assert looks(6, 6) == [6]
    assert looks(3, 10) == [3, 5, 7, 10]
    assert looks(3, 4) == [3, 4]
    for count in range(1, 9):
        assert sum(weights(count)) == pytest.approx(1.0, abs=1e-15)
    assert weights(4)[-1] == 0.5


def test_one_look_is_the_test_itself():
    x, y = rng(1).normal(size=6), rng(2).normal(1.0, size=6)
    assert compare_at([6], x, y, rng(), resamples=50) == compare(x, y, rng(), resamples=50)


def test_the_p_value_is_the_least_of_the_looks_over_their_shares():
    x, y = rng(3).normal(3.0, size=10), rng(4).normal(size=7)
    found = compare_at([3, 5, 7, 10], x, y, rng(), resamples=50)
    ends = [(3, 1 / 6), (5, 1 / 6), (7, 1 / 6)]  # nobody has looked at ten of y yet
    expected = min(t_test(x[:n], y[:n])[0] / share for n, share in ends)
    assert found.p_value == pytest.approx(expected, rel=1e-12)
    assert found.margin == compare(x[:7], y, rng(), resamples=50).margin


def test_a_look_that_found_the_opposite_does_not_count():
    x = np.array([5.0, 5.1, 4.9, -90.0, -91.0])
    y = np.array([0.0, 0.1, -0.1, 0.0, 0.1])
    assert t_test(x[:3], y[:3])[0] < 1e-4
    found = compare_at([3, 5], x, y, rng(), resamples=50)
    assert found.direction == -1
    assert found.p_value == pytest.approx(t_test(x, y)[0] / 0.5, rel=1e-12)


def test_stopping_at_the_first_finding_keeps_the_level():
    draw = rng(6)
    planned = looks(3, 10)
    naive = found = 0
    for _ in range(2000):
        x, y = draw.normal(size=(2, 10))
        at = [t_test(x[:n], y[:n])[0] for n in planned]
        naive += min(at) < 0.05
        pairs = zip(at, weights(len(at)), strict=True)
        found += min(p / share for p, share in pairs) < 0.05
    assert found <= 100
    assert naive > 160  # what looking again and again costs without it
