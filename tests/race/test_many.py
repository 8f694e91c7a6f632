"""Several races as one table, and improvement over workloads."""

import csv
import dataclasses
import itertools
import math

import numpy as np
import pytest
from race_runs import TASK
from typer.testing import CliRunner

from thalweg import train
from thalweg.cli.application import app
from thalweg.core.errors import UsageError
from thalweg.race.improvement import improvement
from thalweg.race.many import read_races
from thalweg.race.run import run_race
from thalweg.race.score import probability_interval, probability_of_improvement
from thalweg.race.store import Store
from thalweg.scoring import times_to_target


def idle(workload, recipe, **settings):
    return dataclasses.replace(train.fit(workload, recipe, **settings), seconds_per_step=0.01)


@pytest.fixture
def races(config, tmp_path, monkeypatch):
    monkeypatch.setattr("thalweg.race.many.contention", lambda rows, machine: None)
    task = tmp_path / "lines.py"
    task.write_text(TASK)
    folders = []
    for place, workload in enumerate(("quadratic", str(task))):
        asked = config(
            "sgd(weight_decay=0)",
            "adamw",
            workload=workload,
            ruleset="external",
            target=(0.45, 0.6)[place],
            out=tmp_path / f"race-{place}",
        )
        run_race(asked, fit=idle)
        folders.append(asked.out)
    return folders


def test_the_table_is_that_of_the_trials(races):
    found = read_races(races)
    assert found.unit == "seconds"
    assert found.suite.base == ("quadratic", "lines")
    table = times_to_target(found.runs, found.suite.base)
    for column, folder in enumerate(races):
        with Store.open(folder) as store:
            for line, name in enumerate(table.submissions):
                rows = store.runs("tune", name)
                assert len(rows) == 6
                times = [
                    math.inf if row.seconds_to_target is None else row.seconds_to_target
                    for row in rows
                ]
                studies = [min(times[2 * i : 2 * i + 2]) for i in range(3)]
                assert table.values[line, column] == sorted(studies)[1]


def test_the_command_scores_races(races, tmp_path):
    words = ["score", *map(str, races), "--out", str(tmp_path / "scores")]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    with (tmp_path / "scores" / "improvements.csv").open(newline="") as file:
        (pair,) = csv.DictReader(file)
    assert (pair["a"], pair["b"], pair["workloads"]) == ("sgd(weight_decay=0)", "adamw", "2")
    assert float(pair["low"]) <= float(pair["probability"]) <= float(pair["high"])
    assert float(pair["wide_low"]) <= float(pair["probability"]) <= float(pair["wide_high"])
    with (tmp_path / "scores" / "scores.csv").open(newline="") as file:
        assert {row["submission"] for row in csv.DictReader(file)} == {pair["a"], pair["b"]}


def test_a_busy_machine_is_scored_by_steps(races, monkeypatch):
    monkeypatch.setattr("thalweg.race.many.contention", lambda rows, machine: "it was busy")
    found = read_races(races)
    assert found.unit == "steps"
    assert "quadratic: it was busy" in found.notes[0]
    hits = [run.time_to_target for run in found.runs.rows if math.isfinite(run.time_to_target)]
    assert hits
    assert all(time == int(time) for time in hits)


def test_races_that_do_not_go_together(races, config, tmp_path):
    with pytest.raises(UsageError, match="a second race on quadratic"):
        read_races([races[0], races[0]])
    budget = config("adamw", target=0.5, seeds=1, out=tmp_path / "other")
    run_race(budget)
    with pytest.raises(UsageError, match=r"ruleset external and .* by budget"):
        read_races([races[1], budget.out])
    with Store.open(budget.out, readonly=False) as store:
        store.set_facts(finished=False)
    with pytest.raises(UsageError, match="not finished"):
        read_races([budget.out])
    with pytest.raises(UsageError, match="no race found"):
        read_races([tmp_path])
    found = CliRunner().invoke(app, ["score", str(tmp_path / "runs.csv")])
    assert isinstance(found.exception, UsageError)
    assert "--workloads" in str(found.exception)


def test_improvement_over_tasks_of_unequal_numbers_of_runs():
    draw = np.random.default_rng(1)
    x = [draw.normal(0.5, 1, n) for n in (3, 5, 4)]
    y = [draw.normal(0.0, 1, n) for n in (4, 5, 3)]
    value, (low, high), (wide_low, wide_high) = improvement(x, y, np.random.default_rng(0), 20_000)
    each = [probability_of_improvement(a, b) for a, b in zip(x, y, strict=True)]
    assert value == pytest.approx(np.mean(each))
    assert wide_low < low < value < high < wide_high
    # With tasks alone drawn anew, the spread is that of the mean of three of the three.
    means = [np.mean(chosen) for chosen in itertools.product(each, repeat=3)]
    assert wide_high - wide_low > np.quantile(means, 0.975) - np.quantile(means, 0.025)


def test_one_task_has_the_interval_of_a_race():
    x, y = np.array([1.0, 3.0, 5.0]), np.array([2.0, 3.0, 4.5])
    value, near, wide = improvement([x], [y], np.random.default_rng(0), 50_000)
    assert value == probability_of_improvement(x, y)
    assert near == pytest.approx(probability_interval(x, y, np.random.default_rng(1), 50_000))
    assert wide == near
