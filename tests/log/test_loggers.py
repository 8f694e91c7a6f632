"""What each tool holds after a run is what the run was, read back from its own files."""

import json
import math
import os
import sqlite3
import subprocess
import sys
import time
import types
import warnings
from pathlib import Path

import pytest

from thalweg import log, train
from thalweg.core.errors import UnknownNameError, UsageError
from thalweg.log.logger import LOSSES

METRIC = "validation/loss above the minimum"
RECIPE = "sgd(lr=0.01) + linear"


class Losses(train.Callback):
    """Keeps what the loggers should have seen."""

    def __init__(self):
        self.losses = {}

    def on_step(self, run, step, loss):
        self.losses[step] = loss


def fit(*loggers, steps=40, **settings):
    seen = Losses()
    result = train.fit(
        "quadratic", RECIPE, steps=steps, evaluate_every=20, callbacks=[seen, *loggers], **settings
    )
    return result, seen.losses


def expected(result, losses):
    """Return the series that a logger should hold: name -> {step: value}."""
    return {
        "train/loss": losses,
        "train/mean_loss": {p.step: p.train_loss for p in result.curve},
        METRIC: {p.step: p.metric for p in result.curve},
        "train/seconds": {p.step: p.seconds for p in result.curve},
    }


def check(series, result, losses, tolerance=1e-12):
    for name, values in expected(result, losses).items():
        assert series[name] == pytest.approx(values, rel=tolerance), name
    assert series["train/learning_rate"][20] == pytest.approx(0.01 * 20 / 40)


def test_tensorboard_event_files_hold_the_run(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    result, losses = fit(log.TensorBoard(tmp_path, name="one", facts={"entrant": "mine"}))
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard" / "one"))
    events.Reload()
    series = {
        tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]
    }
    check(series, result, losses, tolerance=1e-6)
    assert series["summary/final_metric"][40] == pytest.approx(result.final_metric, rel=1e-6)
    facts = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"sgd.lr" in facts
    assert b"mine" in facts
    # One run, not a second one for the hyper-parameters.
    assert [p for p in (tmp_path / "tensorboard").rglob("*") if p.is_dir()] == [
        tmp_path / "tensorboard" / "one"
    ]


def test_mlflow_store_holds_the_run(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    result, losses = fit(log.MLflow(tmp_path, project="mine", name="one", facts={"odd (%)": None}))
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mine")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "one"
    assert run.info.status == "FINISHED"
    assert run.data.params["sgd.lr"] == "0.01"
    assert run.data.params["odd ___"] == "None"
    assert run.data.tags["status"] == "ok"
    assert run.data.metrics["summary/final_metric"] == pytest.approx(result.final_metric)
    series = {
        name: {m.step: m.value for m in client.get_metric_history(run.info.run_id, name)}
        for name in run.data.metrics
    }
    check(series, result, losses)
    assert mlflow.active_run() is None


def test_trackio_store_holds_the_run(tmp_path):
    pytest.importorskip("trackio")
    # It reads where its store is when it is imported.
    code = (
        "import sys; from thalweg import log, train\n"
        "r = train.fit('quadratic', 'sgd(lr=0.01) + linear', steps=40, evaluate_every=20,\n"
        "    callbacks=[log.Trackio(sys.argv[1], project='mine', name='one')])\n"
        "print(r.final_metric)"
    )
    environment = os.environ | {"TRACKIO_DIR": str(tmp_path / "store")}
    command = [sys.executable, "-c", code, str(tmp_path / "none")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    with sqlite3.connect(tmp_path / "store" / "mine.db") as store:
        rows = store.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id").fetchall()
        (config,) = store.execute("SELECT config FROM configs").fetchone()
    store.close()
    assert {name for name, _, _ in rows} == {"one"}
    at = [(step, json.loads(values)) for _, step, values in rows]
    finals = [v[METRIC] for step, v in at if step == 40 and METRIC in v]
    assert finals == [float(done.stdout.splitlines()[0])]
    assert sorted(step for step, v in at if "train/loss" in v) == list(range(1, 41))
    assert json.loads(config)["sgd.lr"] == 0.01
    assert not (tmp_path / "none").exists()


def leveldb_log(data):
    """Yield the records of a LevelDB log with the seven bytes of header that the tool adds."""
    assert data.startswith(b":W&B")
    at, whole = 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last piece of one
            yield whole
            whole = b""


def whole_file(file, record):
    """Return the file's records once the last is there; the tool writes from another process."""
    for _ in range(300):
        records = [record.FromString(data) for data in leveldb_log(file.read_bytes())]
        if any(one.HasField("exit") for one in records):
            return records
        time.sleep(0.1)
    raise AssertionError("the run's file has no end after 30 s")


def test_wandb_offline_file_holds_the_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_DIR", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    result, losses = fit(log.WandB(tmp_path, project="mine", name="one"))
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    series, config, code = {}, {}, None
    for record in whole_file(file, Record):
        if record.HasField("run"):
            config = {item.key: item.value_json for item in record.run.config.update}
            assert (record.run.project, record.run.display_name) == ("mine", "one")
        if record.HasField("history"):
            items = {
                item.key or ".".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }
            for key, value in items.items():
                series.setdefault(key, {})[record.history.step.num] = value
        if record.HasField("exit"):
            code = record.exit.exit_code
    assert config["sgd.lr"] == "0.01"
    check(series, result, losses)
    assert code == 0


class Spy(log.Logger):
    """A logger for the tests: keeps what it is told and fails where it is asked to."""

    slug = "spy"
    package = "json"
    fails = ""

    def _note(self, what, *values):
        if what == self.fails:
            raise OSError("no space left")
        self.told.append((what, *values))

    def open(self, name, facts):
        self.told = []
        self._note("open", name, facts)

    def log(self, values):
        self._note("log", {step: dict(at) for step, at in values.items()})

    def close(self, status, summary):
        self._note("close", status, summary)


@pytest.mark.parametrize("place", ["open", "log", "close"])
def test_a_logger_that_fails_is_reported_and_changes_nothing(tmp_path, place):
    spy = Spy(tmp_path)
    spy.fails = place
    with pytest.warns(RuntimeWarning, match=r"spy could not be .*OSError: no space left") as seen:
        result, _ = fit(spy)
    assert len(seen) == 1
    without, _ = fit()
    assert result.status == "ok"
    assert result.final_metric == without.final_metric
    assert {"open": 0, "log": 1, "close": 3}[place] == len(spy.told)


def test_a_failed_run_leaves_the_logger_fit_for_the_next(tmp_path):
    spy = Spy(tmp_path)
    spy.fails = "log"
    with pytest.warns(RuntimeWarning):
        fit(spy)
    spy.fails = ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(spy)
    assert [what for what, *_ in spy.told] == ["open", "log", "log", "close"]


def test_what_is_logged_and_when(tmp_path):
    spy = Spy(tmp_path, facts={"recipe": "mine"})
    result, losses = fit(spy, steps=3 * LOSSES, seed=7)
    _, name, facts = spy.told[0]
    assert name.startswith("quadratic-2")
    assert facts["seed"] == 7
    assert facts["recipe"] == "mine"
    assert facts["sgd.lr"] == 0.01
    at = {step: v["train/loss"] for _, all in spy.told[1:-1] for step, v in all.items()
          if "train/loss" in v}  # fmt: skip
    assert at == {step: losses[step] for step in range(3, 3 * LOSSES + 1, 3)}
    what, status, summary = spy.told[-1]
    assert (what, status) == ("close", "ok")
    assert summary["seconds_per_step"] == result.seconds_per_step
    assert "error" not in summary


def test_a_diverged_run_is_logged_to_its_end(tmp_path):
    spy = Spy(tmp_path)
    result = train.fit("quadratic", "sgd(lr=1e30)", steps=40, callbacks=[spy])
    assert result.status == "diverged"
    _, status, summary = spy.told[-1]
    assert status == "diverged"
    assert summary["error"] == result.error
    last = list(spy.told[-2][1].values())[-1]
    assert math.isnan(last[METRIC])


def test_loggers_do_not_disturb_the_run(tmp_path):
    class Noisy(Spy):
        def log(self, values):
            import random

            import torch

            torch.rand(3)
            random.random()

    result, losses = fit(Noisy(tmp_path))
    without, same = fit()
    assert (result.final_metric, losses) == (without.final_metric, same)


def test_unusable_input_is_refused_before_work(tmp_path, monkeypatch):
    with pytest.raises(UnknownNameError, match=r'unknown logger "tensorbord".*"tensorboard"'):
        log.make(["tensorbord"])
    with pytest.raises(UnknownNameError, match="unknown logger"):
        log.make(["adamw"])
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        Spy(tmp_path / "file")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match=r"wandb.*pip install 'thalweg\[wandb\]'"):
        log.make(["wandb"], folder=tmp_path)


def test_a_logger_is_no_part_of_a_recipe():
    with pytest.raises(UsageError, match='unknown part "tensorboard"'):
        train.fit("quadratic", "sgd(lr=0.1) + tensorboard", steps=1)


def test_another_package_brings_a_logger(tmp_path):
    module = types.SimpleNamespace(
        name="my_logger",
        source=(
            "from thalweg.core.registry import Part, register\n"
            "from thalweg.log import Logger\n"
            "class Mine(Logger):\n"
            "    '''Mine.'''\n"
            "    slug = 'mine'\n"
            "    package = 'json'\n"
            "    def open(self, name, facts): self.seen = [name]\n"
            "    def log(self, values): self.seen.append(values)\n"
            "    def close(self, status, summary): self.seen.append(status)\n"
            "register(Part('mine', 'logger', 'Mine', '', Mine))\n"
        ),
    )
    (tmp_path / f"{module.name}.py").write_text(module.source)
    metadata = tmp_path / "my_logger-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-logger\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[thalweg.loggers]\nmine = my_logger\n")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    }
    code = "from thalweg import log; print(type(log.make(['mine'])[0]).__name__)"
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "Mine\n", done.stderr
    assert Path(tmp_path / "my_logger.py").exists()


def test_a_logger_without_its_methods_is_none():
    class Mine(log.Logger):
        slug = "mine"
        package = "json"

    with pytest.raises(TypeError, match="abstract methods close, log, open"):
        Mine()
