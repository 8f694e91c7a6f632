"""``--log`` of the command line."""

import pytest
from typer.testing import CliRunner

from thalweg.cli.application import app
from thalweg.core.errors import UnknownNameError

TRAIN = ["train", "quadratic", "sgd(lr=0.1)", "--steps", "10"]


def invoke(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


def test_train_logs_beside_its_output(tmp_path):
    pytest.importorskip("tensorboard")
    done = invoke(*TRAIN, "--log", "tensorboard", "--log-folder", tmp_path / "logs")
    assert done.exit_code == 0
    (file,) = (tmp_path / "logs" / "tensorboard").rglob("events.out.tfevents.*")
    assert b"sgd(lr=0.1)" in file.read_bytes()
    assert file.parent.name.startswith("quadratic-")


def test_race_logs_every_run_into_its_folder(tmp_path):
    pytest.importorskip("tensorboard")
    race = ["race", "quadratic", "-e", "sgd(lr=0.1)", "--steps", "10", "--trials", "1"]
    done = invoke(*race, "--seeds", "2", "--target", "1", "--out", tmp_path, "--log", "tensorboard")
    assert done.exit_code == 0
    logged = {path.name for path in (tmp_path / "logs" / "tensorboard").iterdir()}
    assert {"tune-00-000", "final-00-000", "final-00-001"} == logged


def test_an_unknown_logger_is_refused_before_work(tmp_path):
    with pytest.raises(UnknownNameError, match='Did you mean "tensorboard"'):
        invoke(*TRAIN, "--log", "tensorbord", "--log-folder", tmp_path / "logs")
    assert not (tmp_path / "logs").exists()


def test_the_list_names_the_loggers():
    listed = invoke("list", "logger").stdout
    for slug in ("tensorboard", "wandb", "mlflow", "trackio"):
        assert slug in listed
