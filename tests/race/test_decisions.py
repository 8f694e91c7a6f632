"""What may be said of a race: error rates against scipy and simulated races."""

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from thalweg.race import decisions, score
from thalweg.race.sequential import looks

NAN = -np.inf


def rng(seed=0):
    return np.random.default_rng(seed)


def comparison(p, direction, supported=True):
    low, high = (0.8, 1.0) if direction > 0 else (0.0, 0.2)
    if not supported:
        low, high = 0.4, 0.9
    return score.Comparison(0.9, low, high, direction, p, 0.25, None)


def separation(scores, seed=0, resamples=100):
    resolution = score.resolution_of(scores)
    comparisons = {
        (i, j): score.compare(scores[i], scores[j], rng(seed), resolution, resamples)
        for i, j in itertools.combinations(range(len(scores)), 2)
    }
    order = sorted(range(len(scores)), key=lambda i: -np.mean(scores[i]))
    return decisions.separate(comparisons, order)


def test_discovery_rates_are_those_of_benjamini_and_yekutieli():
    p_values = rng(2).uniform(size=15) ** 3
    pairs = list(itertools.combinations(range(6), 2))
    found = decisions.discovery_rates(dict(zip(pairs, p_values, strict=True)))
    expected = stats.false_discovery_control(p_values, method="by")
    assert [found[pair] for pair in pairs] == pytest.approx(expected, rel=1e-12)
    assert decisions.discovery_rates({}) == {}
    assert decisions.discovery_rates({(0, 1): 0.03}) == {(0, 1): 0.03}


def test_the_winner_needs_no_correction_and_the_other_pairs_do():
    pairs = {
        (0, 1): comparison(0.04, 1),
        (0, 2): comparison(0.04, 1),
        (0, 3): comparison(0.01, 1),
        (1, 2): comparison(0.9, 1),
        (1, 3): comparison(0.02, 1),
        (2, 3): comparison(0.001, 1),
    }
    found = decisions.separate(pairs, [0, 1, 2, 3])
    assert found.winner == 0
    assert found.separated == {(0, 1), (0, 2), (0, 3), (2, 3)}
    assert found.adjusted[2, 3] == pytest.approx(0.001 * 6 * 2.45)
    pairs[0, 1] = comparison(0.06, 1)  # the winner is gone, and with it the licence
    found = decisions.separate(pairs, [0, 1, 2, 3])
    assert found.winner is None
    assert found.separated == {(2, 3)}


def test_the_leader_must_be_the_better_one_of_every_pair():
    pairs = {(0, 1): comparison(0.01, -1)}
    assert decisions.separate(pairs, [0, 1]).winner is None
    assert decisions.separate(pairs, [1, 0]).winner == 1


def test_unsupported_pairs_count_as_tested():
    pairs = {(0, 1): comparison(0.001, 1, supported=False), (0, 2): comparison(0.02, 1)}
    pairs[1, 2] = comparison(0.5, 1)
    found = decisions.separate(pairs, [0, 1, 2])
    assert found.separated == frozenset()
    assert found.adjusted[0, 1] == 1.0
    assert found.adjusted[0, 2] == pytest.approx(0.02 * 3 * (1 + 1 / 2 + 1 / 3))


def test_too_few_seeds_and_divergence():
    for n in (1, 2):
        few = [np.arange(n) * 0.01, np.arange(n) * 0.01 + 99]
        assert separation(few).winner is None
    gone, good = np.full(3, NAN), np.array([0.5, 0.6, 0.4])
    assert separation([gone, good]).winner == 1


def test_deciding_leaves_out_who_does_not_compete():
    draw = rng(3)
    scores = [np.full(5, NAN), draw.normal(0.0, 1.0, 5), draw.normal(9.0, 1.0, 5)]
    found = decisions.decide(scores, [False, True, True], [5], seed=1, resamples=200)
    assert found.winner == 2
    assert found.order == [2, 1, 0]
    assert found.separated == {(0, 1), (0, 2), (1, 2)}
    assert (0, 1) not in found.adjusted
    assert found.undecided == set()
    alone = decisions.decide(scores, [False, False, True], [5], seed=1, resamples=200)
    assert alone.winner == 2


def test_the_undecided_are_those_who_are_not_told_from_somebody():
    draw = rng(4)
    scores = [draw.normal(mean, 1.0, 6) for mean in (0.0, 0.0, 30.0)]
    found = decisions.decide(scores, [True] * 3, [6], seed=1, resamples=200)
    assert found.undecided == {0, 1}
    assert found.winner == 2
    again = decisions.decide(scores, [True] * 3, [6], seed=1, resamples=200)
    assert again.comparisons == found.comparisons


def test_resampled_equals_that_stop_early_rarely_have_a_winner():
    """A small form of benchmarks/false_winners.py, with the same real runs."""
    file = Path(__file__).parents[2] / "benchmarks" / "digits_noise.csv"
    with file.open(newline="") as lines:
        pool = [float(r["final_metric"]) for r in csv.DictReader(lines) if r["pool"] == "adamw"]
    draw = rng(5)
    planned = looks(3, 10)
    winners = found = 0
    for race in range(200):
        scores = [draw.choice(pool, size=planned[-1]) for _ in range(2 + race % 2)]
        for look in planned:
            seen = [values[:look] for values in scores]
            outcome = decisions.decide(seen, [True] * len(scores), planned, race, 60)
            if not outcome.undecided:
                break
        winners += outcome.winner is not None
        found += bool(outcome.separated)
    assert winners <= 10
    assert found <= 12


def test_a_probability_that_may_be_a_half_separates_nothing():
    unsure = score.Comparison(0.7, 0.4, 0.9, 1, 0.001, 0.25, None)
    assert decisions.separate({(0, 1): unsure}, [0, 1]).winner is None
    assert decisions.separate({(0, 1): unsure}, [0, 1]).separated == frozenset()


@pytest.mark.parametrize("n", [3, 5, 10])
def test_a_race_between_equals_rarely_has_a_winner(n):
    draw = rng(n)
    races = [separation(list(draw.normal(size=(6, n)))) for _ in range(120)]
    assert np.mean([race.winner is not None for race in races]) < 0.02
    assert np.mean([bool(race.separated) for race in races]) < 0.05


@pytest.mark.parametrize("n", [3, 5])
def test_two_equals_ahead_of_the_rest_rarely_have_a_winner(n):
    # The hardest case: the leader needs to beat just one equal by chance.
    draw = rng(n + 50)
    ahead = np.array([9.0, 9.0, 0.0])[:, None]
    races = [separation(list(ahead + draw.normal(size=(3, n)))) for _ in range(400)]
    assert np.mean([race.winner is not None for race in races]) < 0.06


@pytest.mark.parametrize("scale", [0.3, 0.7])
def test_coarse_accuracies_of_equals_rarely_have_a_winner(scale):
    draw = rng(7)
    races = [
        separation(list(np.round(draw.normal(90, scale, size=(2, 3))) / 100)) for _ in range(400)
    ]
    assert np.mean([race.winner is not None for race in races]) < 0.06


def test_five_sigma_are_found_with_five_seeds():
    draw = rng(11)
    lead = np.array([5.0, 0, 0, 0, 0, 0])[:, None]
    races = [separation(list(lead + draw.normal(size=(6, 5)))) for _ in range(100)]
    assert np.mean([race.winner == 0 for race in races]) > 0.97
