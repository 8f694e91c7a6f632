"""Ladders of sizes: records against scipy, and a ladder of two made-up rungs."""

import csv
import dataclasses
import math

import numpy as np
import pytest
from race_runs import TASK
from scipy import stats

from thalweg import train
from thalweg.core.errors import UsageError
from thalweg.core.seeds import generator
from thalweg.race.speedrun import first_record, is_record, ladder_of, run_ladder
from thalweg.train.result import Point
from thalweg.workload import load


@pytest.mark.parametrize("shift", np.linspace(-2.0, 4.0, 13))
def test_a_record_is_a_one_sided_test_at_one_percent(shift):
    values = np.random.default_rng(3).normal(size=5) - shift
    test = stats.ttest_1samp(values, 0.0, alternative="less")
    assert is_record(values, 0.0, False) == (test.pvalue <= 0.01)
    assert is_record(-values, 0.0, True) == (test.pvalue <= 0.01)


def test_records_need_runs_that_finished_and_seeds():
    assert not is_record([-1.0, -1.1], 0.0, False)
    assert not is_record([-1.0, -1.1, math.nan], 0.0, False)
    assert is_record([-1.0, -1.0, -1.0], 0.0, False)
    assert not is_record([1.0, 1.0, 1.0], 0.0, False)


def test_the_first_record_is_on_the_grid_that_all_runs_share():
    grids = [
        {10: 1.0, 20: 0.4 + 0.001 * seed, 25: 0.0, 30: 0.2 + 0.001 * seed} for seed in range(4)
    ]
    assert first_record(grids, 0.5, False) == 20
    del grids[2][20]
    assert first_record(grids, 0.5, False) == 25
    assert first_record(grids, -0.1, False) is None
    assert first_record(grids[:2], 0.5, False) is None


def test_a_trick_that_wins_on_the_small_model_alone(config, tmp_path):
    task = tmp_path / "large.py"
    task.write_text(TASK)

    def fit(workload, recipe, *, seed, **settings):
        result = train.fit(workload, recipe, seed=seed, **{**settings, "steps": 1})
        late = int(generator(seed, recipe).initial_seed() % 3)
        if "lion" in recipe and workload.name == "quadratic":
            late -= 30
        curve = [
            Point(step, step / 10, 1.0, 0.0 if step >= 50 + late else 1.0) for step in range(1, 101)
        ]
        return dataclasses.replace(result, curve=curve, final_metric=0.0)

    asked = config("adamw", "lion", target=0.5, ruleset="speedrun", trials=1, seeds=5)
    ladder = run_ladder(asked, {"1x": "quadratic", "4x": str(task)}, fit=fit)
    by = {(step.rung, step.entrant): step for step in ladder.steps}
    assert by["1x", "lion"].ahead_of == ("adamw",)
    assert by["1x", "lion"].speed_up == pytest.approx(50 / 20, rel=0.15)
    assert by["4x", "lion"].ahead_of == ()
    assert 50 <= by["4x", "adamw"].record <= 52
    assert ladder.sentences[0].startswith("lion is ahead of adamw (2.")
    assert ladder.sentences[0].endswith("at 4x.")
    assert "at 1x, but is not told from adamw" in ladder.sentences[0]
    with (asked.out / "ladder.csv").open(newline="") as file:
        assert [row["rung"] for row in csv.DictReader(file)] == ["1x", "1x", "4x", "4x"]
    assert (asked.out / "4x" / "verdict.json").is_file()
    again = run_ladder(asked, {"1x": "quadratic", "4x": str(task)}, fit=fit)
    assert again == ladder


def test_ladders_that_do_not_exist(config):
    with pytest.raises(UsageError, match="one size only"):
        ladder_of("quadratic")
    with pytest.raises(UsageError, match="at least two"):
        run_ladder(config("adamw", workload="text"))


def test_the_larger_text_has_four_times_the_parameters():
    rungs = ladder_of("text")
    sizes = {
        name: sum(p.numel() for p in load(workload).model().parameters())
        for name, workload in rungs.items()
    }
    assert 3.8 < sizes["4x"] / sizes["1x"] < 4.2
    assert f"{sizes['4x']:,} parameters" in load(rungs["4x"]).architecture
