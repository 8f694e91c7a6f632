"""The folder of checkpoints: complete or absent, and honest about what it cannot read."""

import json

import pytest
import torch
from safetensors.torch import load_file

from thalweg.core.errors import UsageError
from thalweg.train.checkpoint import Checkpoints

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "rate": 0.1, "betas": (0.9, float("inf"))}


def test_there_and_back(tmp_path):
    checkpoints = Checkpoints(tmp_path / "new" / "folder", {"seed": 1})
    assert checkpoints.load() is None
    path = checkpoints.save(7, STATE)
    assert sorted(file.name for file in path.iterdir()) == ["state.json", "tensors.safetensors"]
    assert torch.equal(load_file(path / "tensors.safetensors")["/weight"], STATE["weight"])
    found = Checkpoints(tmp_path / "new" / "folder", {"seed": 1}).load()
    assert torch.equal(found["weight"], STATE["weight"])
    assert (found["rate"], found["betas"]) == (STATE["rate"], STATE["betas"])


def test_a_later_one_replaces_an_earlier_one_and_the_same_step_is_rewritten(tmp_path):
    checkpoints = Checkpoints(tmp_path, {})
    for step, rate in ((9, 1.0), (10, 2.0), (10, 3.0)):
        checkpoints.save(step, {"rate": rate})
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000000010"]
    assert checkpoints.load() == {"rate": 3.0}


def test_clear_removes_checkpoints_and_nothing_else(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".step-0000000003-99").mkdir()
    checkpoints = Checkpoints(tmp_path, {})
    checkpoints.save(3, STATE)
    checkpoints.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_other_settings(tmp_path):
    Checkpoints(tmp_path, {"seed": 1, "steps": 5}).save(3, STATE)
    with pytest.raises(UsageError, match=r"seed was 1 and is 2\. Pass the same settings"):
        Checkpoints(tmp_path, {"seed": 2, "steps": 5}).load()


def test_another_format(tmp_path):
    path = Checkpoints(tmp_path, {}).save(3, STATE) / "state.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "format": 99, "thalweg": "9.9"}))
    with pytest.raises(UsageError, match=r"from Thalweg 9\.9, whose format this version"):
        Checkpoints(tmp_path, {}).load()


@pytest.mark.parametrize("file", ["state.json", "tensors.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "missing", "list"])
def test_a_damaged_one(tmp_path, file, damage):
    path = Checkpoints(tmp_path, {}).save(3, STATE) / file
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:40] if damage == "cut" else b"[1, 2]")
    with pytest.raises(UsageError, match="delete this one to start over"):
        Checkpoints(tmp_path, {}).load()
