"""`thalweg score`, as its user meets it."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from scoring_data import published
from typer.testing import CliRunner

from thalweg.cli.application import app
from thalweg.core.errors import UsageError

Table = Callable[..., Path]

GOOD = [["a", "w", "s", "t", 1.5], ["b", "w", "s", "t", ""]]


def run(*words: object) -> str:
    found = CliRunner().invoke(app, ["score", *map(str, words)])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.output


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def targets(tmp_path: Path) -> Path:
    path = tmp_path / "targets.json"
    workloads = {"w": {"validation_target_value": 0.5}}
    path.write_text(json.dumps({"base_workloads": ["w"], "workloads": workloads}))
    return path


def test_published_runs(trials_file: Path, targets_file: Path, tmp_path: Path) -> None:
    words = ("--trial-rule", "evaluations", "--out", tmp_path / "out")
    output = run(trials_file, "--workloads", targets_file, *words)
    assert "shampoo_submission" in output
    scores = read(tmp_path / "out" / "scores.csv")
    known = {row["submission"]: float(row["score"]) for row in published("published_scores.csv")}
    assert {row["submission"]: float(row["score"]) for row in scores} == pytest.approx(known)
    assert [int(row["rank"]) for row in scores] == list(range(1, 12))
    for row in scores:
        assert int(row["rank_low"]) <= int(row["rank"]) <= int(row["rank_high"])
        assert abs(float(row["score"]) - float(row["score_exact"])) <= 0.0016
    profiles = read(tmp_path / "out" / "profiles.csv")
    assert len(profiles) == 11 * 100
    assert float(profiles[0]["tau"]) == 1
    times = read(tmp_path / "out" / "times.csv")
    expected = published("published_time_to_targets.csv")
    assert set(times[0]) == set(expected[0])


def test_leave_one_out(trials_file: Path, targets_file: Path, tmp_path: Path) -> None:
    run(trials_file, "--workloads", targets_file, "--out", tmp_path)
    rows = read(tmp_path / "leave_one_out.csv")
    assert len(rows) == 8 * 11 + 11 * 10
    whole = {row["submission"]: float(row["score"]) for row in read(tmp_path / "scores.csv")}
    without = [r for r in rows if r["left_out"] == "shampoo_submission"]
    assert all(float(row["score"]) >= whole[row["submission"]] - 1e-12 for row in without)
    ratings = read(tmp_path / "ratings.csv")
    assert float(ratings[0]["nash_weight"]) == pytest.approx(1)


def test_speed_ups(table: Table, tmp_path: Path) -> None:
    workloads = {
        "v": {"validation_target_value": 0.5, "max_allowed_runtime_sec": 15},
        "w": {"validation_target_value": 0.5, "max_allowed_runtime_sec": 15},
    }
    targets = tmp_path / "targets.json"
    targets.write_text(json.dumps({"base_workloads": ["v", "w"], "workloads": workloads}))
    rows = [["a", "v", "s", "t", 1], ["a", "w", "s", "t", 4]]
    rows += [["b", "v", "s", "t", 4], ["b", "w", "s", "t", ""], ["c", "v", "s", "t", 1]]
    run(table(rows), "--workloads", targets, "--out", tmp_path)
    found = {(r["submission"], r["reference"]): r for r in read(tmp_path / "speed_ups.csv")}
    assert len(found) == 6
    assert float(found["a", "b"]["time_ratio"]) == pytest.approx(0.25)  # 1 / 4, and 4 / 16
    assert float(found["a", "b"]["speed_up"]) == pytest.approx(0.75)
    assert float(found["b", "a"]["time_ratio"]) == pytest.approx(4)
    assert found["a", "c"]["speed_up"] == ""  # c has no run on w


def test_a_miss_without_a_budget_has_no_speed_up(
    table: Table, targets: Path, tmp_path: Path
) -> None:
    run(table(GOOD), "--workloads", targets, "--out", tmp_path)
    assert all(row["speed_up"] == "" for row in read(tmp_path / "speed_ups.csv"))


def test_self_tuning_has_one_run_a_study(table: Table, targets: Path, tmp_path: Path) -> None:
    rows = [["a", "w", "s1", "t", 1], ["a", "w", "s2", "t", 3], ["b", "w", "s1", "t", 4]]
    words = ("--workloads", targets, "--ruleset", "self", "--out", tmp_path / "out")
    run(table(rows), *words)
    scores = read(tmp_path / "out" / "scores.csv")
    assert [(row["submission"], float(row["score_exact"])) for row in scores] == [
        ("a", 1.0),
        ("b", pytest.approx(2 / 3)),
    ]
    with pytest.raises(UsageError, match="has t and u"):
        run(table([*rows, ["a", "w", "s1", "u", 2]]), *words)


def test_rows_of_another_ruleset_are_left_out(table: Table, targets: Path, tmp_path: Path) -> None:
    columns = "ruleset,submission,workload,study,trial,time_to_target"
    rows = [["external_tuning", *GOOD[0]], ["self_tuning", "c", "w", "s", "t", 1]]
    run(table(rows, columns), "--workloads", targets, "--out", tmp_path / "out")
    assert [row["submission"] for row in read(tmp_path / "out" / "scores.csv")] == ["a"]
    with pytest.raises(UsageError, match="no run of the ruleset self"):
        run(table(rows[:1], columns), "--workloads", targets, "--ruleset", "self")


def test_what_is_odd_is_told(table: Table, targets: Path, tmp_path: Path) -> None:
    rows = [["a", "w", "s", "t", ""], ["a", "other", "s", "t", 1]]
    output = run(table(rows), "--workloads", targets, "--out", tmp_path / "out")
    assert "nobody met the target of w" in output
    assert "left out: other" in output
    assert float(read(tmp_path / "out" / "scores.csv")[0]["score"]) == 0


@pytest.mark.parametrize(
    ("columns", "row", "message"),
    [
        ("submission,workload,study,time_to_target", ["a", "w", "s", 1], "no column trial"),
        (
            "submission,workload,study,trial,time_to_target,tme",
            ["a", "w", "s", "t", 1, 1],
            'unknown column "tme"',
        ),
        ("submission,workload,study,trial,time_to_target", ["a", "w", "s", "t", "nan"], "line 2"),
        ("submission,workload,study,trial,time_to_target", ["a", "w", "s", "t", -1], "found '-1'"),
        ("submission,workload,study,trial,time_to_target", ["a", "w", "s", "t", "x"], "found 'x'"),
        ("submission,workload,study,trial,time_to_target", ["", "w", "s", "t", 1], "empty"),
        (
            "submission,workload,study,trial,time_to_target,minimise",
            ["a", "w", "s", "t", 1, "down"],
            "minimise must be 1",
        ),
    ],
)
def test_bad_tables_are_refused(
    columns: str, row: list[object], message: str, table: Table, targets: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError, match=message):
        run(table([row], columns), "--workloads", targets, "--out", out)
    assert not out.exists()


def test_other_bad_input_is_refused(table: Table, targets: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    with pytest.raises(UsageError, match="lines 2 and 3 are the same run"):
        run(table([GOOD[0], GOOD[0]]), "--workloads", targets, *out)
    columns = "version,submission,workload,study,trial,time_to_target"
    with pytest.raises(UsageError, match="versions v5, v6"):
        run(table([["v5", *GOOD[0]], ["v6", *GOOD[1]]], columns), "--workloads", targets, *out)
    with pytest.raises(UsageError, match="cannot read the runs"):
        run(tmp_path / "absent.csv", "--workloads", targets, *out)
    with pytest.raises(UsageError, match="eval_index_hit"):
        run(table(GOOD), "--workloads", targets, "--trial-rule", "evaluations", *out)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "is not JSON"),
        ("[]", "base_workloads"),
        ('{"base_workloads": ["w"], "workloads": {"v": {}}}', "has no entry"),
        ('{"base_workloads": ["w"], "workloads": {"w": {}}}', "validation_target_value"),
        ('{"base_workloads": [], "workloads": {}}', "must be some"),
        (
            '{"base_workloads": ["w"], "held_out_workloads": ["x"], "workloads": {"w": '
            '{"validation_target_value": 1}, "x": {"validation_target_value": 1}}}',
            "no variant of a base workload",
        ),
    ],
)
def test_bad_lists_of_workloads_are_refused(
    content: str, message: str, table: Table, tmp_path: Path
) -> None:
    path = tmp_path / "targets.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=message):
        run(table(GOOD), "--workloads", path, "--out", tmp_path / "out")
