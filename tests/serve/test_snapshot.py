"""What the live page says of a race is what its store and its files say."""

import json

import pytest
from begun_race import race_until

from thalweg.core.errors import UsageError
from thalweg.race import Store, run_race
from thalweg.race.live import forget, read_live
from thalweg.report.numbers import NONE
from thalweg.serve import snapshot as module
from thalweg.serve.page import page, parts
from thalweg.serve.snapshot import snapshot


def test_a_race_under_way(begun):
    state = snapshot(begun)
    with Store.open(begun) as store:
        rows = store.runs()
        best = store.best_trials()
    facts = state.facts
    # A hidden baseline's trials (2), trials (3 x 2), seeds (3 x 3).
    assert (facts["done"], facts["total"]) == (len(rows), 17)
    assert len(rows) == 6
    assert not state.finished
    (run,) = facts["running"]
    assert run["label"] == "<b>sgd</b>"
    assert run["what"] == "trial 2"
    assert run["steps"] == "step 12 of 20"
    assert run["share"] == pytest.approx(60)
    assert facts["share"] == pytest.approx(100 * 6.6 / 17)
    board = {row["name"]: row for row in facts["board"]}
    assert board["adamw + linear"]["trials"] == "2 of 2"
    assert board["<b>sgd</b>"]["trials"] == "1 of 2"
    assert board["boom"]["broken"] == 1
    order = [row["name"] for row in facts["board"] if row["value"] is not None]
    assert order == sorted(order, key=lambda name: best[name].final_metric)
    states = {row["name"]: [cell["state"] for cell in row["trials"]] for row in facts["grid"]}
    assert states == {
        "adamw + linear": ["done", "done"],
        "<b>sgd</b>": ["done", "running"],
        "boom": ["diverged", "queued"],
    }
    assert [cell["state"] for cell in facts["baseline"]] == ["done", "done"]


def test_the_curves_are_the_stores(begun):
    state = snapshot(begun)
    traces = state.figures["curve-metric"]["data"]
    with Store.open(begun) as store:
        best = store.best_trials()["adamw + linear"]
        curve = store.curve(best.run_id)
    (live,) = read_live(begun)
    by_entrant = {(t["meta"]["entrant"], t["line"]["width"]): t for t in traces}
    assert by_entrant[0, 2.4]["x"] == [p.step for p in curve]
    assert by_entrant[0, 2.4]["y"] == [p.metric for p in curve]
    assert by_entrant[1, 1.4]["y"] == [p.metric for p in live.curve]
    assert [p.step for p in live.curve] == [5, 10]


def test_names_are_text_on_the_page(begun):
    state = snapshot(begun)
    html = page(state).split('id="figures"')[0] + "".join(parts(state).values())
    assert "<b>sgd" not in html
    assert "&lt;b&gt;sgd" in html
    assert "&lt;b&gt;sgd" in json.dumps(state.figures)


def test_the_estimate_is_what_the_runs_take(begun):
    """Equal runs of 2 s each, one of them 60 % done: what is left is arithmetic."""
    with Store.open(begun, readonly=False) as store, store._connection as connection:
        connection.execute("UPDATE run SET wall_seconds = 2.0, status = 'ok'")
    left = dict(snapshot(begun).facts["summary"])["Left, estimated"]
    assert left == f"{round((11 - 0.6) * 2)} s"


def test_a_race_without_any_result(tmp_path):
    race_until(tmp_path / "race", "target-00-000", step=3)
    state = snapshot(tmp_path / "race")
    assert state.facts["headline"] == "The first trials are under way"
    assert "No run has finished yet" in state.facts["lead"]
    assert all(row["value"] is None and row["place"] == NONE for row in state.facts["board"])
    assert dict(state.facts["summary"])["Left, estimated"] != "not known yet"
    assert "curve-metric" in page(state)
    forget(tmp_path / "race")
    assert dict(snapshot(tmp_path / "race").facts["summary"])["Left, estimated"] == "not known yet"


def test_a_silent_race_is_called_silent(begun, monkeypatch):
    (live,) = read_live(begun)
    monkeypatch.setattr(module.time, "time", lambda: live.heard + 1)
    assert snapshot(begun).facts["silent"] is None
    monkeypatch.setattr(module.time, "time", lambda: live.heard + 600)
    facts = snapshot(begun).facts
    assert "Nothing was heard of this race for 10 min" in facts["silent"]
    assert facts["running"][0]["silent"] == "10 min"


def test_what_is_no_live_file_is_passed_over(begun):
    (begun / "live" / "broken.json").write_text("{")
    (begun / "live" / "list.json").write_text("[]")
    (begun / "live" / "folder.json").mkdir()
    assert [run.run_id for run in read_live(begun)] == ["tune-01-001"]


def test_the_race_goes_on_and_leaves_no_live_files(tmp_path):
    config = race_until(tmp_path / "race", "tune-01-001")
    verdict = run_race(config)
    assert not (config.out / "live").exists()
    state = snapshot(config.out)
    assert state.finished
    assert state.facts["headline"] == "All runs are done"
    assert state.facts["done"] == state.facts["total"] == 17
    assert state.facts["by_finals"]
    means = {row["name"]: row["value"] for row in state.facts["board"]}
    for standing in verdict.ranking:
        assert means[standing.entrant] == (
            None if standing.mean is None else pytest.approx(standing.mean)
        )


def test_a_folder_without_a_race_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no race found"):
        snapshot(tmp_path)
