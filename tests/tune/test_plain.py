"""Grids cover, random points hit, quasi-random points leave no holes."""

import itertools

import numpy as np
import pytest
from tune_problems import MIXED, SQUARE, study

from thalweg.core.errors import UsageError
from thalweg.core.space import Choice, Linear
from thalweg.race.search import trials as race_trials
from thalweg.tune import minimise, named


def points(slug, space=None, trials=30, **settings):
    found = minimise(lambda _: 0.0, space or SQUARE, searcher=slug, trials=trials, **settings)
    return found.trials


def test_a_grid_covers_every_combination_once():
    space = {"a": Linear(0, 1), "b": Choice(("x", "y", "z")), "c": Linear(10, 20)}
    values = [tuple(t.values.values()) for t in points("grid(points=3)", space, trials=27)]
    expected = set(itertools.product((0, 0.5, 1), "xyz", (10, 15, 20)))
    assert len(values) == 27
    assert set(values) == expected


def test_a_grid_asks_for_a_condition_only_where_it_holds():
    found = points("grid(points=2)", MIXED, trials=10)
    values = {tuple(sorted(t.values.items())) for t in found}
    assert len(values) == len(found) == 4 + 4 + 2
    assert sum("momentum" in t.values for t in found) == 4
    assert sum("beta" in t.values for t in found) == 4


def test_by_default_a_grid_is_as_fine_as_the_trials_allow():
    for trials, sides in ((4, (2, 2)), (11, (3, 3)), (12, (4, 3)), (36, (6, 6))):
        found = points("grid", trials=trials)
        assert tuple(len({t.values[name] for t in found}) for name in "xy") == sides
        assert len(found) == sides[0] * sides[1]


def test_a_grid_that_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="has 8 points, and 7 trials"):
        points("grid", {name: Linear(0, 1) for name in "abc"}, trials=7)


def test_random_trials_hit_the_best_twentieth_as_often_as_they_should():
    # P = 1 - 0.95^n: 0.401 for 10 trials.
    hits = [
        any(t.position["x"] < 0.05 for t in points("random", {"x": Linear(0, 1)}, 10, seed=seed))
        for seed in range(400)
    ]
    assert abs(np.mean(hits) - (1 - 0.95**10)) < 0.08


def test_quasi_random_points_are_those_of_a_race():
    expected = [t.position for t in race_trials({"x": SQUARE["x"], "y": SQUARE["y"]}, 12, seed=5)]
    assert [t.position for t in points("quasi-random", trials=12, seed=5)] == expected


def test_quasi_random_points_are_stratified():
    found = points("quasi-random", trials=16)
    assert sorted(int(16 * t.position["x"]) for t in found) == list(range(16))


def test_names_and_settings_are_checked():
    assert named("hyperband(eta=4)").eta == 4
    assert named("gp-ei").propose(study()).position
    for text, message in (
        ("hyperbands", 'Did you mean "hyperband"'),
        ("adamw", "unknown searcher"),
        ("hyperband(etta=4)", 'Did you mean "eta"'),
        ("random(n=1)", "no settings"),
        ("hyperband(4)", "written as a name"),
        ("hyperband(eta=open())", "written as a name"),
        ("hyperband(eta=4", "written as a name"),
        ("hyperband(eta=1)", "at least 2"),
        ("cma-es(sigma=0)", "sigma"),
        ("evolution(population=2)", "tournament"),
    ):
        with pytest.raises(UsageError, match=message.replace("(", r"\(")):
            named(text)
    with pytest.raises(UsageError, match="name of a searcher"):
        named(3)
