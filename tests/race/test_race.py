"""Whole races on the quadratic: what they write, say, survive and refuse."""

import csv
import dataclasses
import json
import math

import pytest
from race_runs import TASK
from safetensors.torch import load_file

from thalweg import train
from thalweg.core.errors import UsageError
from thalweg.core.files import locked
from thalweg.core.registry import get
from thalweg.race import events
from thalweg.race.rows import COLUMNS
from thalweg.race.run import run_race
from thalweg.race.store import Store
from thalweg.recipe import Recipe

AGREED_COLUMNS = [
    *("entrant", "recipe", "phase", "trial", "seed", "status", "steps"),
    *("steps_to_target", "seconds_to_target", "best_metric", "final_metric"),
    *("seconds_per_step", "peak_bytes", "state_bytes"),
]

NEAR = "near=adamw(lr=0.1, weight_decay=0)"
FAR = "far=adamw(lr=0.001, weight_decay=0)"


def heard():
    told = []
    return told, told.append


def test_what_a_race_writes(config, results):
    told, tell = heard()
    asked = config("adamw + warmup(0.05) + linear", FAR)
    verdict = run_race(asked, tell)
    assert sorted(path.name for path in asked.out.iterdir()) == [
        "race.lock",
        "race.sqlite",
        "results.csv",
        "verdict.json",
        "weights",
    ]
    with (asked.out / "results.csv").open(newline="") as file:
        header = next(csv.reader(file))
    assert header == AGREED_COLUMNS == list(COLUMNS)
    rows = results(asked.out)
    phases = [(row["phase"], row["entrant"], row["trial"]) for row in rows]
    wide = "adamw + warmup(0.05) + linear"
    assert phases[:3] == [("tune", wide, "0"), ("tune", "far", "0"), ("tune", wide, "1")]
    finals = [row for row in rows if row["phase"] == "final"]
    assert [row["entrant"] for row in finals] == [wide, "far"] * 3
    assert {row["seed"] for row in rows if row["phase"] == "tune"}.isdisjoint(
        row["seed"] for row in finals
    )
    assert [row["seed"] for row in finals[::2]] == [row["seed"] for row in finals[1::2]]
    written = json.loads((asked.out / "verdict.json").read_text())
    assert written == json.loads(json.dumps(verdict.to_dict()))
    with Store.open(asked.out) as store:
        assert store.finished()
        assert store.machine()["threads"] == 1
        assert store.best_trials()[wide].recipe == finals[0]["recipe"]
        for row in store.runs("final"):
            weights = load_file(store.weights(row.run_id))
            assert weights["x"].shape == (20,)
    kinds = [type(event) for event in told]
    assert kinds[0] is events.RaceStarted
    assert kinds[-1] is events.RaceFinished
    assert told[0].runs == kinds.count(events.RunFinished) == 9
    assert kinds.count(events.TargetSet) == 1
    finished = [event for event in told if isinstance(event, events.RunFinished)]
    assert [event.done for event in finished] == list(range(1, 10))
    assert finished[-1].seconds_left == 0
    assert all(event.seconds_left > 0 for event in finished[:-1])


def test_a_row_can_be_repeated_from_what_it_says(config):
    asked = config("sgd", "adamw + ema")
    run_race(asked)
    with Store.open(asked.out) as store:
        for row in store.runs():
            again = train.fit("quadratic", row.recipe, steps=20, seed=row.seed)
            assert again.final_metric == row.final_metric
            assert Recipe.parse(row.recipe).hyper().items() >= row.hyper.items()
            assert [p.metric for p in again.curve] == [p.metric for p in store.curve(row.run_id)]


def test_who_else_runs_does_not_matter(config, tmp_path, results):
    alone = config("sgd", out=tmp_path / "alone", target=0.5)
    company = config("lion", "sgd", "adamw", out=tmp_path / "company", target=0.5)
    run_race(alone)
    run_race(company)
    assert results(tmp_path / "alone") == [
        row for row in results(tmp_path / "company") if row["entrant"] == "sgd"
    ]


def test_six_times_plain_adamw_has_no_winner(config):
    verdict = run_race(config(*(f"{name}=adamw(lr=0.01)" for name in "abcdef"), trials=1))
    assert verdict.winner is None
    assert {standing.rank for standing in verdict.ranking} == {1}
    assert not any(pair.separated for pair in verdict.pairs)


def test_a_hundredth_of_the_learning_rate_loses(config):
    verdict = run_race(config(FAR, NEAR, steps=60))
    assert verdict.winner == "near"
    assert verdict.sentences[0].startswith("near wins on quadratic")


def test_the_default_target_is_what_the_baseline_had_at_nine_tenths(config):
    asked = config(NEAR, "adamw + warmup(0.05) + linear", steps=40)
    verdict = run_race(asked)
    with Store.open(asked.out) as store:
        best = store.best_trials()["adamw + warmup(0.05) + linear"]
        until = [point.metric for point in store.curve(best.run_id) if point.step <= 36]
        assert store.runs("target") == []
        for row in store.runs():
            hits = [p.step for p in store.curve(row.run_id) if p.metric <= min(until)]
            assert row.steps_to_target == next(iter(hits), None)
    assert verdict.target == min(until)
    assert verdict.target_source == "baseline"
    assert "90%" in verdict.target_text


def test_a_hidden_baseline_sets_the_target_and_is_no_entrant(config, tmp_path, results):
    asked = config(NEAR, FAR)
    verdict = run_race(asked)
    open_race = config(NEAR, "adamw + warmup(0.05) + linear", out=tmp_path / "open")
    assert verdict.target == run_race(open_race).target
    with Store.open(asked.out) as store:
        assert len(store.runs("target")) == 2
        assert store.best_trials().keys() == {"near", "far"}
    assert {row["entrant"] for row in results(asked.out)} == {"near", "far"}
    assert {row["phase"] for row in results(asked.out)} == {"tune", "final"}
    assert "not an entrant" in verdict.target_text


def test_the_users_target_needs_no_baseline(config):
    asked = config(NEAR, target=0.25)
    told, tell = heard()
    assert run_race(asked, tell).target == 0.25
    assert told[0].target == 0.25
    with Store.open(asked.out) as store:
        assert store.runs("target") == []
        assert all(row.steps_to_target for row in store.runs())


def test_nothing_to_tune_is_one_trial(config, results):
    run_race(config(NEAR, "sgd", target=0.5))
    rows = results(config(NEAR).out)
    assert [row["entrant"] for row in rows if row["phase"] == "tune"] == ["near", "sgd", "sgd"]


def test_divergence_is_a_result_and_comes_last(config, results):
    asked = config("nan=adamw(lr=1e30, weight_decay=0)", NEAR, "partly=sgd(weight_decay=0)")
    verdict = run_race(asked)
    rows = [row for row in results(asked.out) if row["entrant"] == "nan"]
    assert [(row["phase"], row["status"]) for row in rows] == [("tune", "diverged")] + [
        ("final", "diverged")
    ] * 3
    assert rows[0]["steps"] != "0"
    assert [row["steps"] for row in rows[1:]] == ["0", "0", "0"]
    assert verdict.ranking[-1].entrant == "nan"
    assert any("nan: no trial finished" in sentence for sentence in verdict.sentences)
    with Store.open(asked.out) as store:
        assert "no trial finished" in store.runs("final", "nan")[0].error


def test_a_failing_run_is_a_result(config, results):
    def fit(workload, recipe, **settings):
        if "lion" in recipe:
            raise RuntimeError("out of memory")
        return train.fit(workload, recipe, **settings)

    asked = config(NEAR, "lion", target=0.5)
    verdict = run_race(asked, fit=fit)
    assert {row["status"] for row in results(asked.out) if row["entrant"] == "lion"} == {"failed"}
    assert verdict.ranking[-1].entrant == "lion"
    assert verdict.winner == "near"
    assert any("RuntimeError: out of memory" in sentence for sentence in verdict.sentences)


def test_a_listener_that_fails_is_no_failed_run(config):
    def tell(event):
        if isinstance(event, events.RunStepped):
            raise BrokenPipeError("nobody listens")

    def slow(workload, recipe, **settings):
        progress, *_ = settings["callbacks"]
        progress._told = -math.inf
        progress.on_start = lambda run: None
        return train.fit(workload, recipe, **settings)

    asked = config(NEAR, target=0.5)
    with pytest.raises(BrokenPipeError):
        run_race(asked, tell, slow)
    with Store.open(asked.out) as store:
        assert store.runs() == []


class Stop(BaseException):
    """Ends a race where it is, as a signal would."""


def test_interrupted_anywhere_it_ends_with_the_same_numbers(config, tmp_path, results):
    entrants = ("sgd", "adamw + warmup(0.05) + linear", "nan=adamw(lr=1e30, weight_decay=0)")
    told, tell = heard()
    whole = config(*entrants, out=tmp_path / "whole")
    expected = run_race(whole, tell)
    moments = [
        place
        for place, event in enumerate(told)
        if isinstance(event, events.RunStarted | events.RunFinished | events.TargetSet)
    ]
    broken = config(*entrants, out=tmp_path / "broken")
    for moment in moments[::5]:
        count = 0

        def stop(event, last=moment):
            nonlocal count
            if isinstance(event, events.RunStepped):
                return
            count += 1
            if count > last % 7 + 1:
                raise Stop

        with pytest.raises(Stop):
            run_race(broken, stop)
    found = run_race(broken)
    assert results(broken.out) == results(whole.out)
    times = {"contention", "sentences"}
    for key, value in expected.to_dict().items():
        if key not in times and key != "ranking":
            assert found.to_dict()[key] == value
    again, tell = heard()
    assert run_race(broken, tell).winner == found.winner
    kinds = {type(event) for event in again}
    assert kinds == {events.RaceStarted, events.TargetSet, events.RaceFinished}
    assert again[0].done == again[0].runs


def test_a_long_run_continues_from_its_checkpoint(config, monkeypatch, results):
    monkeypatch.setattr("thalweg.race.training.CHECKPOINT_SECONDS", 0.0)
    asked = config("adamw + warmup(0.05) + linear", trials=1, seeds=1)
    begun = []

    class Halt(train.Callback):
        def on_step(self, run, step, loss):
            if step == 11:
                raise Stop

    class Note(train.Callback):
        def on_start(self, run):
            begun.append(run.step)

    def fit_with(callback):
        def fit(workload, recipe, **settings):
            settings["callbacks"] = (*settings["callbacks"], callback)
            return train.fit(workload, recipe, **settings)

        return fit

    with pytest.raises(Stop):
        run_race(asked, fit=fit_with(Halt()))
    assert (asked.out / "checkpoints" / "tune-00-000").is_dir()
    run_race(asked, fit=fit_with(Note()))
    assert begun == [10, 0]
    assert not (asked.out / "checkpoints").exists()
    whole = dataclasses.replace(asked, out=asked.out.parent / "whole")
    run_race(whole)
    assert results(asked.out) == results(whole.out)


def test_a_checkpoint_that_cannot_be_used_costs_only_the_run(config, results):
    asked = config(NEAR, trials=1, seeds=1, target=0.5)
    folder = asked.out / "checkpoints" / "tune-00-000" / "step-0000000010"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{")
    run_race(asked)
    assert {row["status"] for row in results(asked.out)} == {"ok"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trials": 3}, "trials was 2 and is 3"),
        ({"seeds": 4}, "seeds was 3 and is 4"),
        ({"steps": 21}, "steps was 20 and is 21"),
        ({"seed": 5}, "seed was 4 and is 5"),
        ({"target": 0.5}, "target was not set and is 0.5"),
        ({"threads": 3}, "threads was 1 and is 3"),
    ],
)
def test_another_race_in_the_same_folder(config, change, message):
    asked = config(NEAR, FAR, trials=2)
    run_race(asked)
    before = (asked.out / "race.sqlite").read_bytes()
    with pytest.raises(UsageError, match=message) as caught:
        run_race(config(NEAR, FAR, **change))
    assert "use another folder" in str(caught.value)
    assert (asked.out / "race.sqlite").read_bytes() == before


def test_other_entrants_in_the_same_folder(config):
    run_race(config(NEAR, FAR, seeds=1))
    for entrants, message in [
        ((NEAR,), 'the entrant "far" is missing'),
        ((NEAR, FAR, "sgd"), 'the entrant "sgd" is new'),
        ((FAR, NEAR), "order has changed"),
        ((NEAR, "far=sgd"), r'the entrant "far" was adamw.* and is sgd'),
    ]:
        with pytest.raises(UsageError, match=message):
            run_race(config(*entrants, seeds=1))


def test_more_threads_by_default_continue_with_those_of_the_beginning(config, monkeypatch):
    asked = config(NEAR, seeds=1, target=0.5)
    run_race(asked)
    monkeypatch.setattr("torch.get_num_threads", lambda: 7)
    run_race(asked)
    with Store.open(asked.out) as store:
        assert store.config()["threads"] == 1


def test_a_task_file_that_changed_is_another_race(config, tmp_path):
    task = tmp_path / "task.py"
    task.write_text(TASK)
    asked = config("sgd(lr=0.1)", workload=str(task), seeds=1, steps=None)
    run_race(asked)
    with Store.open(asked.out) as store:
        assert store.config()["steps"] == 10
        assert store.config()["workload"] == str(task)
    run_race(asked)
    task.write_text(TASK + "\n# another thought\n")
    with pytest.raises(UsageError, match="content of the task file has changed"):
        run_race(asked)


def test_a_folder_in_which_someone_races(config):
    asked = config(NEAR, seeds=1, target=0.5)
    run_race(asked)
    busy = pytest.raises(UsageError, match="another process is racing in")
    with locked(asked.out / "race.lock", "ours"), busy:
        run_race(asked)
    run_race(asked)


def test_foreign_files_are_left_alone(config):
    asked = config(NEAR, seeds=1, target=0.5)
    asked.out.mkdir()
    (asked.out / "notes.txt").write_text("mine")
    run_race(asked)
    assert (asked.out / "notes.txt").read_text() == "mine"


def test_a_foreign_store_is_left_alone(config):
    asked = config(NEAR)
    asked.out.mkdir()
    (asked.out / "race.sqlite").write_text("mine")
    with pytest.raises(UsageError, match="cannot be read as a race"):
        run_race(asked)
    assert [path.name for path in asked.out.iterdir()] == ["race.sqlite"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trials": 0}, "trials must be a whole number of at least 1, found 0"),
        ({"seeds": 0}, "seeds must be"),
        ({"steps": 0}, "steps must be"),
        ({"seed": -1}, "seed must be"),
        ({"target": math.nan}, "target must be"),
        ({"workload": "digit"}, 'Did you mean "digits"'),
        ({"workload": "nowhere.py"}, "there is no task file"),
        ({"device": "warp"}, "warp"),
        ({"entrants": ()}, "at least one entrant"),
    ],
)
def test_bad_settings_leave_nothing_behind(config, change, message):
    asked = dataclasses.replace(config(NEAR), **change)
    with pytest.raises(UsageError, match=message):
        run_race(asked)
    assert not asked.out.exists()


def test_a_broken_task_leaves_nothing_behind(config, tmp_path):
    task = tmp_path / "task.py"
    task.write_text(TASK.replace(".mean()", ""))
    asked = config(NEAR, workload=str(task))
    with pytest.raises(UsageError, match="must return a scalar"):
        run_race(asked)
    assert not asked.out.exists()


def test_a_rule_that_cannot_take_the_parameters_is_found_before_any_work(config, monkeypatch):
    def refuse(self, model, *_, **__):
        raise UsageError("it takes matrices only")

    monkeypatch.setattr(get("lion").factory, "__init__", refuse)
    asked = config(NEAR, "mine=lion")
    with pytest.raises(UsageError, match="mine cannot train quadratic: it takes matrices only"):
        run_race(asked)
    assert not asked.out.exists()


def test_an_unwritable_folder(config, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        run_race(config(NEAR, out=tmp_path / "file" / "race"))
