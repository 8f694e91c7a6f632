"""From comparisons of pairs to what may be said of a race.

Two claims, each with its own error rate of at most 5 %.

*The winner* beats every other entrant at 5 %. No correction is due, because all tests must succeed
(an intersection-union test): whichever entrants are equal, a false winner is called in at most 5 %
of races, and in far fewer the more equals there are.

*The pairs* that are told apart have a false-discovery rate of at most 5 %, by the procedure of
Benjamini and Yekutieli (2001, Annals of Statistics 29, 1165): the k-th smallest of m p-values is
compared with ``0.05 k / (m c)``, ``c = 1 + 1/2 + ... + 1/m``. The divisor ``c`` is what makes it
valid under any dependence. Comparisons of pairs are dependent in both directions (a-b and a-c rise
together, a-b and c-a fall together; with two-sided tests they are not positively regression
dependent), so the proof of the better known procedure of Benjamini and Hochberg (1995), without
``c``, does not hold for them. Among equals, where every finding is false, this is also a bound on
the chance of any finding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from thalweg.core.seeds import derive_seed
from thalweg.race.score import LEVEL, RESAMPLES, Comparison, Scores, resolution_of
from thalweg.race.sequential import compare_at

Pairs = tuple[int, int]


@dataclass(frozen=True)
class Separation:
    """What a set of comparisons lets one say.

    Attributes:
        winner: index of the entrant that beats every other one, or None.
        separated: pairs ``(i, j)``, i < j, that are told apart.
        adjusted: adjusted p-value by pair: the false-discovery rate at which it would be found.
    """

    winner: int | None
    separated: frozenset[Pairs]
    adjusted: dict[Pairs, float]


def separate(comparisons: Mapping[Pairs, Comparison], order: Sequence[int]) -> Separation:
    """Decide which entrants are told apart.

    Everywhere the interval of the probability of improvement must exclude 1/2 as well; a
    comparison in which it does not takes part with a p-value of 1, so that the rates hold.

    Args:
        comparisons: by pair ``(i, j)`` with i < j.
        order: the entrants from best to worst mean.
    """
    p_values = {pair: one.p_value if one.supported else 1.0 for pair, one in comparisons.items()}
    adjusted = discovery_rates(p_values)
    separated = {pair for pair, rate in adjusted.items() if rate < LEVEL}
    winner = None
    if len(order) > 1:
        first = order[0]
        won = {pair for pair in comparisons if first in pair}
        better = all(
            comparisons[i, j].direction == (1 if first == i else -1) and p_values[i, j] < LEVEL
            for i, j in won
        )
        if better:
            winner = first
            separated |= won
    return Separation(winner, frozenset(separated), adjusted)


def discovery_rates(p_values: Mapping[Pairs, float]) -> dict[Pairs, float]:
    """Return p-values adjusted by the procedure of Benjamini and Yekutieli.

    ``min over j >= k of p_(j) m c / j``, at most 1, for the k-th smallest of m.
    """
    m = len(p_values)
    factor = m * math.fsum(1 / k for k in range(1, m + 1))
    ranked = sorted(p_values, key=lambda pair: p_values[pair], reverse=True)
    rates: dict[Pairs, float] = {}
    least = 1.0
    for place, pair in enumerate(ranked):
        least = min(least, p_values[pair] * factor / (m - place))
        rates[pair] = least
    return rates


@dataclass(frozen=True)
class Decision:
    """What the final runs of a race say.

    Attributes:
        order: the entrants from the best mean to the worst; a run that diverged counts as the worst
            result that any run of the race got.
        running: those in `order` of whose trials one finished.
        comparisons: of every pair ``(i, j)``, i < j.
        adjusted: false-discovery rates of the pairs that a test decides.
        separated: the pairs that are told apart.
        winner: who beats all others, or None.
    """

    order: list[int]
    running: list[int]
    comparisons: dict[Pairs, Comparison]
    adjusted: dict[Pairs, float]
    separated: frozenset[Pairs]
    winner: int | None

    @property
    def undecided(self) -> set[int]:
        """Return the entrants that more seeds may tell from another one."""
        pairs = combinations(sorted(self.running), 2)
        return {one for pair in pairs if pair not in self.separated for one in pair}


def decide(
    scores: Sequence[Scores],
    competing: Sequence[bool],
    planned: Sequence[int],
    seed: int,
    resamples: int = RESAMPLES,
) -> Decision:
    """Compare everyone with everyone.

    Who is not competing, because no trial of it finished, is told from all who are by rule.

    Args:
        scores: by entrant, of its final runs by seed; some may have fewer seeds.
        competing: by entrant.
        planned: the looks of the race (`thalweg.race.sequential.looks`).
        seed: draws the resamples, for each pair its own, so that others do not matter.
        resamples: of the bootstrap.
    """
    order = _order(scores)
    running = [i for i in order if competing[i]]
    resolution = resolution_of(scores)
    comparisons = {
        (i, j): compare_at(
            planned,
            scores[i],
            scores[j],
            np.random.default_rng(derive_seed(seed, "verdict", i, j)),
            resolution,
            resamples,
        )
        for i, j in combinations(range(len(scores)), 2)
    }
    tested = {pair: one for pair, one in comparisons.items() if set(pair) <= set(running)}
    outcome = separate(tested, running)
    by_rule = {(i, j) for i, j in comparisons if competing[i] != competing[j]}
    winner = outcome.winner
    if len(running) == 1 and len(scores) > 1 and np.isfinite(scores[running[0]]).all():
        winner = running[0]
    separated = outcome.separated | by_rule
    return Decision(order, running, comparisons, outcome.adjusted, separated, winner)


def _order(scores: Sequence[Scores]) -> list[int]:
    finite = np.concatenate([values[np.isfinite(values)] for values in scores])
    worst = float(finite.min()) if len(finite) else 0.0
    means = [
        float(np.where(np.isfinite(values), values, worst).mean())
        if np.isfinite(values).any()
        else -math.inf
        for values in scores
    ]
    return sorted(range(len(scores)), key=lambda i: -means[i])
