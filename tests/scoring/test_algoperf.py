"""The scores that AlgoPerf 0.5 published, from its public runs."""

import math

import numpy as np
import pytest
from scoring_data import published

from thalweg.scoring import (
    Runs,
    Suite,
    exact_score,
    grid_score,
    ratios,
    standing_times,
    study_times,
    times_to_target,
)
from thalweg.scoring.runs import Run
from thalweg.scoring.uncertainty import over_studies

SCORES = {row["submission"]: float(row["score"]) for row in published("published_scores.csv")}


def scores(runs: Runs, suite: Suite, rule: str) -> dict[str, float]:
    table = times_to_target(runs, suite.workloads, rule)  # type: ignore[arg-type]
    standing = standing_times(table.values, table.workloads, suite.base, suite.variants)
    return dict(zip(table.submissions, grid_score(ratios(standing)), strict=True))


def test_published_scores(runs: Runs, suite: Suite) -> None:
    found = scores(runs, suite, "evaluations")
    assert set(found) == set(SCORES)
    for name, value in SCORES.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


def test_trials_by_time_change_one_score(runs: Runs, suite: Suite) -> None:
    found = scores(runs, suite, "time")
    changed = {name: value for name, value in found.items() if abs(value - SCORES[name]) > 1e-9}
    assert changed == {"lawa_ema": pytest.approx(0.3434, abs=5e-5)}


def test_published_times(runs: Runs, suite: Suite) -> None:
    table = times_to_target(runs, suite.workloads, "evaluations")
    compared = 0
    for row in published("published_time_to_targets.csv"):
        own = table.values[table.submissions.index(row["submission"])]
        for name, value in zip(table.workloads, own, strict=True):
            expected = float(row[name]) if row[name] else math.nan
            np.testing.assert_allclose(value, expected, rtol=1e-12, err_msg=str((row, name)))
            compared += 1
    assert compared == 11 * 14


def test_resampled_studies_as_published(runs: Runs, suite: Suite) -> None:
    """An independent program gives Shampoo .645 to .911, and is right in two digits."""
    studies = study_times(runs, runs.submissions, suite.workloads)
    found = over_studies(studies, suite.workloads, suite, np.random.default_rng(3), 4000)
    i = runs.submissions.index("shampoo_submission")
    assert found.score_low[i] == pytest.approx(0.645, abs=0.01)
    assert found.score_high[i] == pytest.approx(0.911, abs=0.01)
    assert found.rank_low[i] == 1
    assert found.rank_high[i] == 3
    assert found.first[i] == pytest.approx(0.75, abs=0.05)
    assert found.first.sum() >= 1


def test_one_study_leaves_no_doubt(suite: Suite) -> None:
    rows = [Run(s, w, "0", "0", t) for s, t in (("a", 1.0), ("b", 2.0)) for w in suite.workloads]
    runs = Runs(tuple(rows))
    studies = study_times(runs, runs.submissions, suite.workloads)
    found = over_studies(studies, suite.workloads, suite, np.random.default_rng(0), 50)
    for ends in (found.score_low, found.score_high):
        np.testing.assert_allclose(ends, [1.0, (66 + 0.5) / 99])
    np.testing.assert_array_equal(found.first, [1, 0])
    np.testing.assert_array_equal(found.rank_high, [1, 2])
    assert exact_score([[1.0], [2.0]])[1] == pytest.approx(2 / 3)


def test_median_of_studies() -> None:
    def time_of(*times: float) -> float:
        rows = [Run("a", "w", str(i), "0", t) for i, t in enumerate(times)]
        return float(times_to_target(Runs(tuple(rows)), ["w"]).values[0, 0])

    assert time_of(3.0, 1.0, 2.0) == 2.0
    assert time_of(1.0, math.inf, 2.0) == 2.0
    assert time_of(1.0, 2.0, 3.0, 4.0) == 2.5
    assert time_of(1.0, math.inf) == math.inf
    assert time_of(1.0, 2.0, math.inf, math.inf) == math.inf
    assert time_of(math.inf, math.inf) == math.inf


def test_a_study_takes_its_best_trial() -> None:
    trials = [
        Run("a", "w", "s", "slow", 9.0, evaluations_to_target=2),
        Run("a", "w", "s", "fast", 5.0, evaluations_to_target=3),
        Run("a", "w", "s", "never", math.inf),
    ]
    table = Runs(tuple(trials))
    assert times_to_target(table, ["w"]).values[0, 0] == 5.0
    assert times_to_target(table, ["w"], "evaluations").values[0, 0] == 9.0


def test_no_run_is_not_a_miss() -> None:
    table = times_to_target(Runs((Run("a", "v", "s", "t", 1.0),)), ["v", "w"])
    np.testing.assert_array_equal(table.values, [[1.0, math.nan]])
