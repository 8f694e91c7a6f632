"""A race whose trials a searcher proposes."""

import dataclasses
import math

import pytest

from thalweg import train
from thalweg.core.errors import UsageError
from thalweg.core.space import Choice, Log
from thalweg.race import run_race
from thalweg.race.config import differences
from thalweg.race.entrants import parse_entrants
from thalweg.race.plan import placed, plan_trials
from thalweg.race.rows import RunRow
from thalweg.race.search import next_trial, trials
from thalweg.race.store import Store
from thalweg.recipe import Recipe


def row(number, point, metric):
    return RunRow(
        f"tune-00-{number:03d}", "a", "", "tune", number, 0, "ok" if metric is not None else
        "diverged", 5, final_metric=metric, hyper=point.hyper, position=point.position,
    )  # fmt: skip


def test_quasi_random_proposals_are_the_trials_of_old():
    space = {"a.lr": Log(1e-4, 1.0), "a.momentum": Choice((0.0, 0.9))}
    expected = trials(space, 6, seed=3)
    rows = []
    for number in range(6):
        point = next_trial("quasi-random", space, 6, 3, rows, higher_is_better=True)
        assert point is not None
        assert point.hyper == expected[number].hyper
        rows.append(row(number, point, 0.5))


def test_proposals_follow_the_entrants_own_results():
    space = {"a.lr": Log(1e-4, 1.0)}

    def last(best, higher):
        rows = []
        for number in range(9):
            point = next_trial("gp-ei", space, 9, 0, rows, higher)
            assert point is not None
            gap = abs(point.position["a.lr"] - best)
            rows.append(row(number, point, None if gap > 0.7 else -gap if higher else gap))
        return rows[-1].position["a.lr"]

    for best in (0.2, 0.8):
        for higher in (True, False):
            assert abs(last(best, higher) - best) < 0.05


def test_a_run_is_placed_when_those_before_it_are_done():
    entrants = parse_entrants(["adamw", "adamw(lr=0.1, weight_decay=0.0)"])
    planned = plan_trials(entrants, None, 4, 0, searcher="tpe")
    assert [run.run_id for run in planned] == [
        "tune-00-000", "tune-01-000", "tune-00-001", "tune-00-002", "tune-00-003",
    ]  # fmt: skip
    assert planned[0].recipe == "adamw"
    there = placed(planned[0], "tpe", 4, 0, [], True)
    assert Recipe.parse(there.recipe) == Recipe.parse("adamw").filled(there.hyper)
    assert placed(planned[1], "tpe", 4, 0, [], True) is planned[1]


def test_a_grid_may_have_fewer_trials():
    planned = plan_trials(parse_entrants(["adamw"]), None, 8, 0, searcher="grid")
    assert len(planned) == 6
    assert len({run.recipe for run in planned}) == 6


@pytest.mark.parametrize("searcher", ["gp-ei", "grid", "cma-es"])
def test_an_interrupted_race_ends_with_the_same_numbers(searcher, config, results, tmp_path):
    asked = {"searcher": searcher, "trials": 6, "seeds": 1, "steps": 8}
    run_race(config("adamw", "sgd(momentum=0.9)", out=tmp_path / "whole", **asked))

    class Stop(BaseException):
        pass

    told = 0

    def interrupt(event):
        nonlocal told
        told += type(event).__name__ == "RunFinished"
        if told == 7:
            raise Stop

    with pytest.raises(Stop):
        run_race(config("adamw", "sgd(momentum=0.9)", out=tmp_path / "broken", **asked), interrupt)
    run_race(config("adamw", "sgd(momentum=0.9)", out=tmp_path / "broken", **asked))
    assert results(tmp_path / "broken") == results(tmp_path / "whole")
    with Store.open(tmp_path / "whole") as store:
        assert store.config()["searcher"] == searcher
        positions = [row.position for row in store.runs("tune", "adamw")]
    assert len({tuple(one.values()) for one in positions}) == len(positions)


def test_searchers_that_no_race_can_use_are_refused(config, tmp_path):
    for recipe, settings, message in (
        ("adamw", {"searcher": "hyperband"}, "trials different lengths.*thalweg tune"),
        ("adamw", {"searcher": "tpee"}, 'Did you mean "tpe"'),
        ("adamw", {"searcher": "grid"}, "has 4 points, and 2 trials"),
        ("sgd(lr=0.1, momentum=0.9)", {"searcher": "grid"}, "has 4 points, and 2 trials"),
        ("adamw", {"searcher": "grid", "trials": None, "budget": "9s"}, "the number of trials"),
        ("adamw", {"searcher": "tpe", "ruleset": "external"}, "leave searcher and prune out"),
        ("adamw", {"prune": True, "ruleset": "self", "trials": None}, "leave searcher and prune"),
        ("adamw", {"prune": 1}, "prune must be True or False"),
    ):
        with pytest.raises(UsageError, match=message):
            run_race(config(recipe, **settings))
    assert not (tmp_path / "race").exists()


def test_another_searcher_is_another_race(config):
    run_race(config("adamw(lr=0.1)", seeds=1, steps=4))
    with pytest.raises(UsageError, match="searcher was quasi-random and is random"):
        run_race(config("adamw(lr=0.1)", seeds=1, steps=4, searcher="random"))


def test_races_begun_before_there_were_searchers_continue(config):
    asked = config("adamw(lr=0.1)", seeds=1, steps=4)
    run_race(asked)
    with Store.open(asked.out) as store:
        now = store.config()
    before = {key: value for key, value in now.items() if key not in ("searcher", "prune")}
    assert differences(before, now) == []


def test_a_searcher_widens_no_ranges_and_its_edges_are_told(config):
    def fit(workload, recipe, *, seed, **settings):
        result = train.fit(workload, recipe, seed=seed, **{**settings, "steps": 1})
        rate = float(recipe.split("lr=")[1].split(",")[0].split(")")[0])
        return dataclasses.replace(result, final_metric=-math.log(rate))

    asked = config("adamw", trials=8, seeds=1, target=0.5, searcher="gp-ei")
    verdict = run_race(asked, None, fit)
    assert verdict.widened == ()
    assert verdict.ranking[0].edge == "upper"
    assert verdict.ranking[0].best_of == ()  # its trials are not alike
    assert any("lies at the upper edge" in sentence for sentence in verdict.sentences)


def test_rounds_of_a_budget_of_seconds_look_back(config):
    def fit(*arguments, **settings):
        result = train.fit(*arguments, **settings)
        return dataclasses.replace(result, seconds=1.0 if "sgd" in arguments[1] else 2.5)

    budget = {"trials": None, "budget": "4s", "searcher": "tpe"}
    asked = config("sgd", "lion", seeds=1, steps=8, target=0.5, **budget)
    run_race(asked, None, fit)
    with Store.open(asked.out) as store:
        found = {name: store.runs("tune", name) for name in ("sgd", "lion")}
    assert [len(rows) for rows in found.values()] == [4, 2]
    assert all(row.hyper for rows in found.values() for row in rows)
