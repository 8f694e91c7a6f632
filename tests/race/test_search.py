"""Trials depend on the seed and the space alone, and fill the space."""

import numpy as np
import pytest

from thalweg.core.space import Choice, Linear, Log
from thalweg.race.search import edge, trials

LR = Log(1e-4, 1e-1)


def test_a_trial_does_not_depend_on_how_many_there_are():
    space = {"adamw.lr": LR, "adamw.weight_decay": Linear(0, 1)}
    assert trials(space, 3, seed=5) == trials(space, 20, seed=5)[:3]


def test_equal_spaces_see_equal_points_and_all_share_the_learning_rates():
    one = trials({"adamw.lr": LR, "adamw.weight_decay": Linear(0, 1)}, 8, seed=1)
    other = trials({"lion.lr": LR, "lion.weight_decay": Linear(0, 1)}, 8, seed=1)
    alone = trials({"sgd.lr": Log(1e-2, 1.0)}, 8, seed=1)
    values = [list(t.hyper.values()) for t in one]
    assert values == [list(t.hyper.values()) for t in other]
    positions = [t.position["sgd.lr"] for t in alone]
    assert positions == [t.position["adamw.lr"] for t in one]


def test_another_seed_looks_elsewhere():
    assert trials({"sgd.lr": LR}, 4, seed=1) != trials({"sgd.lr": LR}, 4, seed=2)


@pytest.mark.parametrize("seed", range(5))
def test_learning_rates_are_stratified(seed):
    positions = [t.position["sgd.lr"] for t in trials({"sgd.lr": LR}, 16, seed)]
    assert sorted(int(16 * u) for u in positions) == list(range(16))


def test_values_are_those_at_the_positions():
    space = {"a.lr": LR, "a.momentum": Choice((0.0, 0.9, 0.99)), "a.decay": Linear(2, 3)}
    for trial in trials(space, 30, seed=3):
        assert trial.hyper == {key: space[key].at(u) for key, u in trial.position.items()}
    points = np.array([list(t.position.values()) for t in trials(space, 300, seed=3)])
    assert np.abs(points.mean(0) - 0.5).max() < 0.02
    assert np.abs(np.corrcoef(points.T) - np.eye(3)).max() < 0.1


def test_nothing_to_tune_is_one_trial():
    (only,) = trials({}, 8, seed=0)
    assert (only.position, only.hyper) == ({}, {})


@pytest.mark.parametrize(
    ("u", "found"), [(0.05, "lower"), (0.1, None), (0.5, None), (0.9, None), (0.95, "upper")]
)
def test_edges_of_the_learning_rate(u, found):
    assert edge({"adamw.lr": u, "adamw.weight_decay": 0.0}) == found
    assert edge({"adamw.weight_decay": 0.0}) is None
