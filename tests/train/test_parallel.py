"""Several processes on one run: the numbers of one process, up to rounding."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from parallel_worker import CASES, case, described

from thalweg import train
from thalweg.core.errors import UsageError
from thalweg.workload import Batches

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="torch without distributed"
)
WORLD = 2


def processes(*command):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(WORLD)}
    started = [
        subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(WORLD)
    ]
    try:
        outputs = [one.communicate(timeout=240)[0] for one in started]
    finally:
        for one in started:
            one.kill()
    assert [one.returncode for one in started] == [0] * WORLD, "\n".join(outputs)
    return outputs


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    file = tmp_path_factory.mktemp("parallel") / "found.json"
    processes(str(Path(__file__).with_name("parallel_worker.py")), str(file), *CASES)
    return json.loads(file.read_text())


@pytest.mark.parametrize("name", ["ddp", "sam", "accumulate", "fsdp", "muon"])
def test_two_processes_give_the_numbers_of_one(found, name):
    alone = described(case(name, parallel=None))
    for key in ("metrics", "losses"):
        assert found[name][key] == pytest.approx(alone[key], rel=1e-4, abs=1e-5)
    assert found[name]["weights"].keys() == alone["weights"].keys()
    for key, value in alone["weights"].items():
        close = torch.tensor(found[name]["weights"][key])
        torch.testing.assert_close(close, torch.tensor(value), rtol=1e-3, atol=1e-4)


def test_a_rule_that_differentiates_the_loss_itself_is_refused(found):
    assert "differentiates the loss itself" in found["closure"]


def test_the_command_under_torchrun_prints_once(tmp_path):
    weights = tmp_path / "weights.safetensors"
    words = ["train", "quadratic", "adamw(lr=0.1)", "--steps", "6", "--weights", str(weights)]
    outputs = processes("-m", "thalweg", *words)
    assert "after 6 steps" in outputs[0]
    assert "steps" not in outputs[1]
    assert weights.exists()


@pytest.mark.parametrize("count", [10, 7])
def test_shares_are_the_batch(count):
    data = torch.arange(40.0).reshape(20, 2)
    batches = Batches(data, count, seed=5)
    for step in (0, 3):
        parts = [batches.share(step, rank, 3) for rank in range(3)]
        assert torch.equal(torch.cat([part for part, _ in parts]), batches.at(step))
        assert sum(weight for _, weight in parts) == pytest.approx(1.0)
        assert all(len(part) == round(weight * count) for part, weight in parts)


def test_shares_of_a_data_loader_are_its_batch():
    loader = torch.utils.data.DataLoader(torch.arange(20.0).reshape(10, 2), batch_size=5)
    parts = [Batches(loader, 5).share(1, rank, 2) for rank in range(2)]
    assert torch.equal(torch.cat([part for part, _ in parts]), Batches(loader, 5).at(1))
    assert [weight for _, weight in parts] == pytest.approx([0.4, 0.6])
    with pytest.raises(UsageError, match="no share for 6"):
        Batches(loader, 5).share(0, 0, 6)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"parallel": "zero"}, '"ddp" or "fsdp"'),
        ({"parallel": "ddp"}, "torchrun"),
    ],
)
def test_bad_input(monkeypatch, settings, said):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(UsageError, match=said):
        train.fit("quadratic", "adamw(lr=0.1)", steps=2, **settings)


def test_a_sharded_run_without_checkpoints_or_float16(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UsageError, match="no checkpoints"):
        train.fit("quadratic", "adamw(lr=0.1)", parallel="fsdp", checkpoint=tmp_path)
    with pytest.raises(UsageError, match="float16"):
        train.fit("quadratic", "adamw(lr=0.1)", parallel="fsdp", precision="float16")
