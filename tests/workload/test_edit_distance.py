"""Edit distances, counted by hand and by another recursion."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.workload.edit_distance import edit_distance


@pytest.mark.parametrize(
    ("one", "other", "edits"),
    [
        ("", "", 0),
        ("", "abc", 3),
        ("kitten", "sitting", 3),
        ("flaw", "lawn", 2),
        ("intention", "execution", 5),
        (["HH", "AH", "L", "OW"], ["HH", "EH", "L", "OW", "Z"], 2),
        ([1, 2, 3], [3, 2, 1], 2),
    ],
)
def test_counted_by_hand(one, other, edits):
    assert edit_distance(one, other) == edits
    assert edit_distance(other, one) == edits


@given(st.text("abc", max_size=7), st.text("abc", max_size=7))
def test_against_the_definition(one, other):
    @cache
    def distance(i, j):
        if not i or not j:
            return i + j
        same = distance(i - 1, j - 1) + (one[i - 1] != other[j - 1])
        return min(same, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

    assert edit_distance(one, other) == distance(len(one), len(other))
