"""Nash averaging: the cases of its paper, copies, and equilibria checked against their meaning."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize

from thalweg.core.errors import UsageError
from thalweg.scoring.nash import agents_against_agents, agents_against_tasks, scaled

ROCK_PAPER_SCISSORS = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=float)
STRENGTHS = arrays(float, (5, 5), elements=st.integers(-3, 3).map(float))
SCORES = arrays(float, (4, 3), elements=st.integers(0, 6).map(lambda x: x / 6))


def test_rock_paper_scissors() -> None:
    found = agents_against_agents(ROCK_PAPER_SCISSORS)
    np.testing.assert_allclose(found.weights, 1 / 3, atol=1e-9)
    np.testing.assert_allclose(found.ratings, 0, atol=1e-9)


def test_a_copy_of_an_agent_changes_nothing_for_others() -> None:
    twice = [0, 1, 2, 2]
    found = agents_against_agents(ROCK_PAPER_SCISSORS[np.ix_(twice, twice)])
    np.testing.assert_allclose(found.weights, [1 / 3, 1 / 3, 1 / 6, 1 / 6], atol=1e-7)


def test_a_ladder_has_its_top() -> None:
    found = agents_against_agents([[0, -1, -1], [1, 0, -1], [1, 1, 0]])
    np.testing.assert_allclose(found.weights, [0, 0, 1], atol=1e-9)
    np.testing.assert_allclose(found.ratings, [-1, -1, 0], atol=1e-9)


def test_the_published_table_of_tasks() -> None:
    found = agents_against_tasks([[0.9, 0.2], [0.5, 0.6], [0.5, 0.6]])
    np.testing.assert_allclose(found.agent_weights, [0.125, 0.4375, 0.4375], atol=1e-7)
    np.testing.assert_allclose(found.task_weights, [0.5, 0.5], atol=1e-7)
    assert found.value == pytest.approx(0.55, abs=1e-9)
    np.testing.assert_allclose(found.agent_ratings, 0.55, atol=1e-7)


@settings(deadline=None, max_examples=40)
@given(STRENGTHS)
def test_nobody_beats_the_equilibrium(strengths: np.ndarray) -> None:
    found = agents_against_agents(strengths - strengths.T)
    assert found.weights.sum() == pytest.approx(1)
    assert found.weights.min() >= 0
    assert found.ratings.max() <= 1e-6


@settings(deadline=None, max_examples=15)
@given(STRENGTHS)
def test_no_equilibrium_is_more_even(strengths: np.ndarray) -> None:
    a = strengths - strengths.T
    found = agents_against_agents(a).weights

    def entropy(p: np.ndarray) -> float:
        p = np.maximum(p, 1e-12)
        return float(-(p * np.log(p)).sum())

    other = minimize(
        lambda p: -entropy(p),
        found + 1e-3 * (1 / len(a) - found),
        method="SLSQP",
        bounds=[(0, 1)] * len(a),
        constraints=[
            {"type": "eq", "fun": lambda p: p.sum() - 1},
            {"type": "ineq", "fun": lambda p: 1e-7 - a @ p},
        ],
    )
    if other.success:
        assert entropy(found) >= -other.fun - 1e-4


@settings(deadline=None, max_examples=40)
@given(SCORES)
def test_tasks_and_agents_hold_each_other_at_the_value(s: np.ndarray) -> None:
    found = agents_against_tasks(s)
    assert (found.agent_weights @ s).min() >= found.value - 1e-6
    assert found.agent_ratings.max() <= found.value + 1e-6
    np.testing.assert_allclose(found.agent_ratings, s @ found.task_weights)
    assert found.task_ratings.max() <= 1e-6


@settings(deadline=None, max_examples=25)
@given(SCORES, st.integers(0, 2))
def test_a_copy_of_a_task_changes_no_rating(s: np.ndarray, again: int) -> None:
    before = agents_against_tasks(s)
    after = agents_against_tasks(np.column_stack([s, s[:, again]]))
    assert after.value == pytest.approx(before.value, abs=1e-8)
    np.testing.assert_allclose(after.agent_weights, before.agent_weights, atol=1e-4)


def test_scores_are_scaled_by_task() -> None:
    np.testing.assert_allclose(scaled([[1, 5], [3, 5], [2, 5]]), [[0, 0], [1, 0], [0.5, 0]])


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(UsageError, match="antisymmetric"):
        agents_against_agents([[0, 1], [1, 0]])
    with pytest.raises(UsageError, match="antisymmetric"):
        agents_against_agents([[0, np.nan], [np.nan, 0]])
    with pytest.raises(UsageError, match="finite"):
        agents_against_tasks([[np.inf]])
