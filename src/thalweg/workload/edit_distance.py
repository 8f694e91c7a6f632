"""How far one sequence is from another."""

from collections.abc import Sequence
from typing import Any


def edit_distance(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Return the least number of insertions, deletions and substitutions from one to the other.

    Levenshtein, "Binary codes capable of correcting deletions, insertions, and reversals", 1966;
    by the recursion over prefixes, one row at a time, O(len(one) len(other)).
    """
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]
