"""`thalweg train --record`: points of a run that other commands take."""

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from thalweg.cli.application import app
from thalweg.core.errors import UsageError

TRAIN = ("train", "quadratic", "sgd(lr=0.05)", "--steps", "20", "--record", "run")


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*words):
        done = CliRunner().invoke(app, list(words))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    return run


def test_the_start_every_so_many_steps_and_the_end_are_kept_and_averaged(invoke, tmp_path):
    assert "weights along the run: run" in invoke(
        *TRAIN, "--record-every", "8", "--weights", "end.safetensors"
    )
    names = [f"step-{step:010d}.safetensors" for step in (0, 8, 16, 20)]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == names
    points = [load_file(tmp_path / "run" / name)["x"] for name in names]
    assert torch.equal(points[-1], load_file(tmp_path / "end.safetensors")["x"])
    invoke("average", "run", "--last", "3")
    found = load_file(tmp_path / "average" / "model.safetensors")["x"]
    torch.testing.assert_close(found, torch.stack(points[1:]).mean(0))
    with pytest.raises(UsageError, match="lies within the input run"):
        invoke("average", "run", "--out", "run/average")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == names


def test_what_cannot_be_recorded_is_refused_before_the_run(invoke, tmp_path):
    with pytest.raises(UsageError, match="shards them"):
        invoke(*TRAIN, "--parallel", "fsdp")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="every"):
        invoke(*TRAIN, "--record-every", "0")
    invoke(*TRAIN)
    with pytest.raises(UsageError, match="another run"):
        invoke(*TRAIN)
