"""The store keeps what it is given, whole or not at all, and refuses what it does not know."""

import dataclasses
import json
import math
import sqlite3

import pytest

from thalweg.core.errors import UsageError
from thalweg.race.rows import CurvePoint, RunRow, best_trial
from thalweg.race.store import SCHEMA_VERSION, Store

CONFIG = {"entrants": [{"name": "a", "recipe": "adamw"}, {"name": "b", "recipe": "sgd"}]}
WORKLOAD = {"name": "quadratic", "metric_name": "loss", "higher_is_better": False}


def row(run_id="tune-00-000", entrant="a", **fields):
    phase, _, number = run_id.split("-")
    defaults = {
        "recipe": "adamw(lr=0.1)",
        "phase": phase,
        "trial": int(number),
        "seed": 7,
        "status": "ok",
        "steps": 10,
        "final_metric": 0.25,
    }
    return RunRow(run_id=run_id, entrant=entrant, **{**defaults, **fields})


@pytest.fixture
def store(tmp_path):
    with Store.create(tmp_path, CONFIG, WORKLOAD, {"a": {}, "b": {}}) as store:
        yield store


def test_rows_and_curves_come_back_exactly(store):
    given = row(
        steps_to_target=5,
        seconds_to_target=0.1 + 0.2,
        best_metric=1e-300,
        final_metric=math.inf,
        seconds_per_step=1 / 3,
        peak_bytes=2**40,
        state_bytes=0,
        hyper={"adamw.lr": 0.1, "adamw.betas": [0.9, 0.99]},
        position={"adamw.lr": 0.3},
        error='line one\n"two"',
        seconds=1.5,
        wall_seconds=2.5,
        cpu_seconds=3.5,
        load=0.25,
    )
    curve = [CurvePoint(5, 0.1, math.nan, 0.5), CurvePoint(10, 0.2, 1e-45, -math.inf)]
    store.record(given, reversed(curve))
    with Store.open(store.folder) as reader:
        assert reader.runs() == [given]
        found = reader.curve(given.run_id)
        assert [dataclasses.astuple(point) for point in found[1:]] == [(10, 0.2, 1e-45, -math.inf)]
        assert math.isnan(found[0].train_loss)
        assert found[0].metric == 0.5
        assert reader.curve("tune-00-001") == []


def test_nan_stays_nan_and_is_told_from_nothing(store):
    store.record(row(final_metric=math.nan, best_metric=None, status="diverged"), [])
    (found,) = store.runs()
    assert math.isnan(found.final_metric)
    assert found.best_metric is None
    assert not found.finished


def test_runs_come_in_the_order_of_an_unbroken_race(store):
    ids = [
        "target-00-000",
        "tune-00-000",
        "tune-01-000",
        "target-00-001",
        "tune-00-001",
        "tune-01-001",
        "final-00-000",
        "final-01-000",
        "final-00-001",
    ]
    for run_id in reversed(ids):
        entrant = "ab"[int(run_id.split("-")[1])] if "target" not in run_id else "(baseline)"
        store.record(row(run_id, entrant), [])
    assert [one.run_id for one in store.runs()] == ids
    assert [one.run_id for one in store.runs("tune", "b")] == ["tune-01-000", "tune-01-001"]
    assert [one.run_id for one in store.runs(entrant="a")] == [
        i for i in ids if i[-7:-4] == "-00" and "target" not in i
    ]


def test_the_best_trial_has_the_best_end_and_came_first():
    rows = [
        row("tune-00-000", final_metric=0.5, best_metric=0.0),
        row("tune-00-001", final_metric=0.2),
        row("tune-00-002", final_metric=0.2),
        row("tune-00-003", final_metric=math.nan, status="diverged"),
        row("tune-00-004", final_metric=0.9),
        row("tune-00-005", final_metric=None, status="failed"),
        row("tune-00-006", final_metric=0.1, status="failed"),
    ]
    assert best_trial(rows, higher_is_better=False).trial == 1
    assert best_trial(rows, higher_is_better=True).trial == 4
    assert best_trial(rows[3:4], higher_is_better=True) is None


def test_the_target_reaches_rows_that_are_there_already(store):
    store.record(row("tune-00-000"), [])
    store.record(row("tune-00-001"), [])
    assert store.target() is None
    target = {"value": 0.5, "source": "baseline", "text": "set"}
    store.set_target(target, {"tune-00-000": (5, 0.1), "tune-00-001": (None, None)})
    assert store.target() == target
    assert [(r.steps_to_target, r.seconds_to_target) for r in store.runs()] == [
        (5, 0.1),
        (None, None),
    ]


def test_facts(store):
    assert store.config() == CONFIG
    assert store.workload() == WORKLOAD
    assert store.best_trials() == {"a": None, "b": None}
    assert (store.machine(), store.finished()) == ({}, False)
    store.set_facts(machine={"cores": 2}, finished=True)
    assert (store.machine(), store.finished()) == ({"cores": 2}, True)
    assert store.weights("final-00-000").name == "final-00-000.safetensors"


def test_a_run_is_recorded_once_and_whole(store):
    store.record(row(), [CurvePoint(1, 0.1, 1.0, 1.0)])
    with pytest.raises(sqlite3.IntegrityError):
        store.record(row(steps=99), [CurvePoint(2, 0.1, 1.0, 1.0)])
    twice = [CurvePoint(1, 0.1, 1.0, 1.0)] * 2
    with pytest.raises(sqlite3.IntegrityError):
        store.record(row("tune-00-001"), twice)
    assert [one.steps for one in store.runs()] == [10]
    assert store.curve("tune-00-001") == []
    assert [point.step for point in store.curve("tune-00-000")] == [1]


def test_a_reader_cannot_write(store):
    with Store.open(store.folder) as reader, pytest.raises(sqlite3.OperationalError):
        reader.record(row(), [])


def test_open_takes_the_folder_or_the_file(store):
    for path in (store.folder, str(store.folder), store.folder / "race.sqlite"):
        with Store.open(path) as reader:
            assert reader.config() == CONFIG


def test_another_version_is_refused(store):
    with sqlite3.connect(store.folder / "race.sqlite") as connection:
        connection.execute(
            "UPDATE meta SET value = ? WHERE key = 'schema_version'",
            (json.dumps(SCHEMA_VERSION + 1),),
        )
    for attempt in (Store.open, Store.exists):
        with pytest.raises(UsageError, match=rf"version {SCHEMA_VERSION + 1}.*new folder"):
            attempt(store.folder)


@pytest.mark.parametrize("content", [b"not a database, but long enough to look" * 9, None])
def test_a_foreign_file_is_refused_and_left_alone(tmp_path, content):
    file = tmp_path / "race.sqlite"
    if content is None:
        with sqlite3.connect(file) as connection:
            connection.execute("CREATE TABLE meta (something)")
        connection.close()
        content = file.read_bytes()
    else:
        file.write_bytes(content)
    for attempt in (Store.open, Store.exists):
        with pytest.raises(UsageError, match=r"choose another folder|move"):
            attempt(tmp_path)
    assert file.read_bytes() == content


def test_no_store_is_said_so(tmp_path):
    with pytest.raises(UsageError, match="no race found"):
        Store.open(tmp_path / "nowhere")
    assert not Store.exists(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_of_a_crash_in_the_first_moment_is_begun_anew(tmp_path):
    (tmp_path / "race.sqlite").touch()
    assert not Store.exists(tmp_path)
    with Store.create(tmp_path, CONFIG, WORKLOAD, {}) as store:
        assert store.config() == CONFIG
    assert Store.exists(tmp_path)
