"""Borda's count, mean ranks and margins on tables that can be counted by hand."""

import math

import numpy as np

from thalweg.scoring.ranking import borda, mean_rank, win_margins

TABLE = [[1, 5, math.inf], [2, 5, 3], [3, math.nan, math.inf]]


def test_mean_rank_shares_ranks_of_equals() -> None:
    np.testing.assert_allclose(
        mean_rank(TABLE), [(1 + 1.5 + 2.5) / 3, (2 + 1.5 + 1) / 3, (3 + 3 + 2.5) / 3]
    )


def test_borda_counts_the_beaten() -> None:
    np.testing.assert_allclose(borda(TABLE), [2 + 1.5 + 0.5, 1 + 1.5 + 2, 0.5])


def test_margins_are_wins_less_losses() -> None:
    third = 1 / 3
    expected = [[0, 0, 2 * third], [0, 0, 1], [-2 * third, -1, 0]]
    np.testing.assert_allclose(win_margins(TABLE), expected)
