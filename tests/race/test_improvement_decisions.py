"""Decisions over workloads: how often they are wrong among equals, and that they find something."""

import numpy as np
import pytest
from scipy.stats import binomtest

from thalweg.race.decisions import discovery_rates
from thalweg.race.improvement import improvements, sign_test

TASKS, SEEDS = 3, 6


def normal(draw, shift=0.0, spread=1.0):
    return [draw.normal(shift, spread, SEEDS) for _ in range(TASKS)]


def races(by_entrant):
    return {
        f"task {i}": {name: scores[i] for name, scores in by_entrant.items()} for i in range(TASKS)
    }


def planned(seeds=SEEDS):
    return {f"task {i}": seeds for i in range(TASKS)}


def test_the_test_is_the_binomial_one():
    draw = np.random.default_rng(0)
    for _ in range(20):
        x, y = normal(draw, 0.4), normal(draw)
        p_value, wins, losses = sign_test(x, y)
        assert wins + losses == TASKS * SEEDS
        assert wins == sum(int((a > b).sum()) for a, b in zip(x, y, strict=True))
        assert p_value == pytest.approx(binomtest(wins, wins + losses).pvalue)
        assert sign_test(y, x) == (p_value, losses, wins)


def test_equal_runs_and_missing_ones_say_nothing():
    x = [np.array([1.0, 2.0, -np.inf, 5.0])]
    y = [np.array([1.0, 1.0, -np.inf])]
    assert sign_test(x, y) == (1.0, 1, 0)
    assert sign_test(y, y) == (1.0, 0, 0)


@pytest.mark.parametrize("equals", [2, 5])
def test_among_equals_a_false_decision_is_made_in_at_most_5_percent(equals):
    """By the test and the correction alone, before the intervals take more away."""
    draw, rounds, false = np.random.default_rng(equals), 1500, 0
    for _ in range(rounds):
        scores = [normal(draw) for _ in range(equals)]
        p_values = {
            (i, j): sign_test(scores[i], scores[j])[0] for i in range(equals) for j in range(i)
        }
        false += min(discovery_rates(p_values).values()) < 0.05
    assert binomtest(false, rounds, 0.05, alternative="greater").pvalue > 0.01
    assert false / rounds <= 0.05


def test_among_equals_the_whole_decision_keeps_its_word():
    draw, rounds, false = np.random.default_rng(7), 150, 0
    for _ in range(rounds):
        scores = races({name: normal(draw) for name in "abc"})
        false += any(one.better for one in improvements(scores, planned(), resamples=100))
    assert false / rounds <= 0.05


@pytest.mark.parametrize(
    ("shifts", "spreads"),
    [
        ((0.0, 0.0, 0.0), (1.0, 0.01)),  # one varies a hundred times less than the other
        ((2.0, -2.0, 0.0), (1.0, 1.0)),  # better here, worse there, equal on average
    ],
)
def test_equal_on_average_is_enough(shifts, spreads):
    draw, rounds, false = np.random.default_rng(3), 3000, 0
    for _ in range(rounds):
        x = [draw.normal(shift, spreads[0], SEEDS) for shift in shifts]
        y = [draw.normal(0.0, spreads[1], SEEDS) for _ in shifts]
        false += sign_test(x, y)[0] < 0.05
    assert false / rounds <= 0.05


def test_looking_until_it_is_decided_does_not_help():
    """Seeds beyond those planned for everyone take no part in the test."""
    draw = np.random.default_rng(5)
    more = {
        f"task {i}": {"a": draw.normal(0, 1, 4), "b": draw.normal(0, 1, 10)} for i in range(TASKS)
    }
    first = {name: {who: s[:3] for who, s in one.items()} for name, one in more.items()}
    (long,) = improvements(more, planned(3))
    (short,) = improvements(first, planned(3))
    assert (long.p_value, long.wins, long.losses) == (short.p_value, short.wins, short.losses)
    assert long.wins + long.losses == 9


def test_who_is_better_is_found_and_named():
    draw = np.random.default_rng(2)
    scores = races({"bad": normal(draw, -4), "good": normal(draw, 4), "same": normal(draw, 4)})
    found = {(one.a, one.b): one for one in improvements(scores, planned())}
    assert found["bad", "good"].better == "good"
    assert found["bad", "same"].better == "same"
    assert found["good", "same"].better is None
    assert found["bad", "good"].wins == 0
    assert found["bad", "good"].losses == 18
    rates = discovery_rates(
        {
            (0, 1): found["bad", "good"].p_value,
            (0, 2): found["bad", "same"].p_value,
            (1, 2): 1.0,
        }
    )
    assert found["bad", "good"].p_adjusted == pytest.approx(rates[0, 1])


def test_all_workloads_count_alike_and_an_interval_over_one_half_decides_nothing():
    # a is a hair better than b under each seed, so it wins all pairs, and half of all over seeds.
    draw = np.random.default_rng(4)
    b = normal(draw)
    scores = races({"a": [one + 1e-6 for one in b], "b": b})
    (pair,) = improvements(scores, planned())
    assert pair.wins == 18
    assert pair.p_value < 1e-4
    assert pair.low < 0.5 < pair.high
    assert pair.better is None
    assert pair.p_adjusted == 1.0
