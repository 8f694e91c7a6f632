"""Trials that fall behind a bar that all entrants share."""

import pytest

from thalweg.race import run_race
from thalweg.race.entrants import parse_entrants
from thalweg.race.pruning import bar
from thalweg.race.rows import CurvePoint, RunRow
from thalweg.race.stages import tuning_batches
from thalweg.race.store import Store

STEPS = (5, 10, 15, 20)


def store_of(folder, curves, higher=False):
    """Return a store with trials: entrant -> list of curves (None for one that diverged)."""
    names = list(curves)
    store = Store.create(
        folder,
        {"entrants": [{"name": name, "recipe": name} for name in names]},
        {"higher_is_better": higher},
        {},
    )
    for i, name in enumerate(names):
        for trial, curve in enumerate(curves[name]):
            row = RunRow(
                f"tune-{i:02d}-{trial:03d}", name, name, "tune", trial, 0,
                "ok" if curve else "diverged", 20, final_metric=curve and curve[-1],
            )  # fmt: skip
            points = zip(STEPS, curve or (), strict=False)
            store.record(row, [CurvePoint(s, 0.0, 0.0, float(y)) for s, y in points])
    return store


def test_the_bar_is_the_worst_of_the_best(tmp_path):
    curves = {
        "quick": [(5, 3, 2, 1), (4, 3, 2, 2)],  # the first is the better one in the end
        "slow": [(9, 9, 8, 0), (9, 9, 9, 9)],
        "broken": [None, None],
    }
    with store_of(tmp_path, curves) as store:
        assert bar(store, 0) == {}
        assert bar(store, 2) == {5: 9, 10: 9, 15: 8, 20: 1}
        # The second round sees the first only, whoever has run in the meantime.
        assert bar(store, 1) == {5: 9, 10: 9, 15: 8, 20: 1}


def test_the_bar_of_a_metric_that_should_be_high(tmp_path):
    with store_of(tmp_path, {"a": [(1, 2, 3, 4)], "b": [(2, 2, 2, 2)]}, higher=True) as store:
        assert bar(store, 1) == {5: 1, 10: 2, 15: 2, 20: 2}


def test_trials_that_fall_behind_are_given_up_and_the_best_is_not(config, tmp_path, results):
    asked = {"trials": 6, "seeds": 1, "steps": 24, "evaluate_every": 2}
    entrants = ("adamw", "sgd(momentum=0.9)")
    run_race(config(*entrants, out=tmp_path / "all", **asked))
    verdict = run_race(config(*entrants, out=tmp_path / "some", prune=True, **asked))
    whole, pruned = results(tmp_path / "all"), results(tmp_path / "some")
    statuses = [row["status"] for row in pruned if row["phase"] == "tune"]
    assert "pruned" in statuses
    assert "pruned" not in statuses[:2]
    for one, other in zip(whole, pruned, strict=True):
        if other["phase"] == "tune" and other["status"] == "pruned":
            assert 6 <= int(other["steps"]) < 24
            assert other["final_metric"] == ""
        elif other["phase"] == "tune":
            assert other == one
    assert all(standing.trials_diverged == 0 for standing in verdict.ranking)
    with Store.open(tmp_path / "some") as store:
        rows = [row for row in store.runs("tune") if row.status == "pruned"]
        assert all("given up at step" in (row.error or "") for row in rows)


def test_an_interrupted_race_gives_up_the_same_trials(config, tmp_path, results):
    asked = {"trials": 5, "seeds": 1, "steps": 24, "evaluate_every": 2, "prune": True}
    run_race(config("adamw", "sgd", out=tmp_path / "whole", **asked))

    class Stop(BaseException):
        pass

    told = 0

    def interrupt(event):
        nonlocal told
        told += type(event).__name__ == "RunFinished"
        if told == 5:
            raise Stop

    with pytest.raises(Stop):
        run_race(config("adamw", "sgd", out=tmp_path / "broken", **asked), interrupt)
    run_race(config("adamw", "sgd", out=tmp_path / "broken", **asked))
    assert results(tmp_path / "broken") == results(tmp_path / "whole")


def test_who_has_no_finished_trial_is_held_to_no_bar(tmp_path):
    entrants = parse_entrants(["a=adamw", "b=sgd"])
    with store_of(tmp_path, {"a": [(1, 1, 1, 1)], "b": [None]}) as store:
        rules = {"trials": 2, "seeds": 1, "seed": 0, "prune": True}
        store.set_facts(config={**store.config(), **rules})
        batches = list(tuning_batches(store, entrants, None))
    assert [[run.run_id for run in batch] for batch in batches] == [
        ["tune-00-000", "tune-01-000"], ["tune-00-001", "tune-01-001"],
    ]  # fmt: skip
    assert [run.bar for run in batches[0]] == [[], []]
    assert [run.bar for run in batches[1]] == [[[step, 1] for step in STEPS], []]
