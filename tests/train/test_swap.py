"""SWAP: three phases, over real processes."""

import dataclasses
import importlib

import pytest
import torch
from safetensors.torch import load_file

from thalweg import workload
from thalweg.core.errors import UsageError
from thalweg.train import fit, swap
from thalweg.train.swap_worker import main

HERE = importlib.import_module("thalweg.train.swap")  # the function hides its module
FIRST, SECOND = "sgd(lr=0.5)", "sgd(lr=0.3)"
PLAN = {"until": 0.02, "first_steps": 60, "second_steps": 20, "first_batch": 256, "seed": 3}


def alone(folder, workers):
    """Run the workers in this process, one after another."""
    for i in range(workers):
        main(folder, i)


def test_phases_over_real_processes(tmp_path):
    found = swap("quadratic", FIRST, SECOND, workers=2, folder=tmp_path, **PLAN)
    assert found.reached
    assert 0 < found.first_steps < 60
    assert found.first_metric <= 0.02
    points = [load_file(tmp_path / f"worker-{i}.safetensors") for i in range(2)]
    assert not torch.equal(points[0]["x"], points[1]["x"])
    torch.testing.assert_close(found.weights["x"], (points[0]["x"] + points[1]["x"]) / 2)
    assert found.metric < sum(found.members) / 2  # the bowl is convex
    again = swap("quadratic", FIRST, SECOND, workers=2, folder=tmp_path, **PLAN)  # nothing to do
    assert torch.equal(again.weights["x"], found.weights["x"])
    with pytest.raises(UsageError, match="other settings"):
        swap("quadratic", FIRST, SECOND, workers=2, folder=tmp_path, **{**PLAN, "seed": 4})


def test_one_worker_fine_tunes_on_small_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(HERE, "_run_workers", alone)
    found = swap("quadratic", FIRST, SECOND, workers=1, folder=tmp_path, **PLAN)
    assert found.metric == pytest.approx(found.members[0])
    # What an interruption in the second phase leaves: the first phase, no worker.
    (tmp_path / "worker-0.json").unlink()
    again = swap("quadratic", FIRST, SECOND, workers=1, folder=tmp_path, **PLAN)
    assert torch.equal(again.weights["x"], found.weights["x"])


def test_without_a_second_phase_it_is_the_model_of_the_first(tmp_path, monkeypatch):
    monkeypatch.setattr(HERE, "_run_workers", alone)
    plan = {**PLAN, "second_steps": 0, "until": -1.0}
    found = swap("quadratic", FIRST, SECOND, workers=1, folder=tmp_path, **plan)
    assert not found.reached
    assert found.first_steps == 60
    problem = dataclasses.replace(workload.load("quadratic"), batch_size=256)
    whole = fit(problem, FIRST, steps=60, seed=3, evaluate_every=10)
    assert torch.equal(found.weights["x"], whole.weights["x"])
    assert found.metric == pytest.approx(whole.final_metric)


def test_a_first_phase_that_was_interrupted_after_its_last_step_is_taken_as_it_ended(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(HERE, "_run_workers", alone)
    plan = {**PLAN, "second_steps": 0, "until": -1.0}
    found = swap("quadratic", FIRST, SECOND, workers=1, folder=tmp_path, **plan)
    for name in ("first.json", "first.safetensors", "worker-0.json", "worker-0.safetensors"):
        (tmp_path / name).unlink()
    again = swap("quadratic", FIRST, SECOND, workers=1, folder=tmp_path, **plan)
    assert again.first_metric == found.first_metric
    assert again.members == found.members
    assert torch.equal(again.weights["x"], found.weights["x"])


def test_a_worker_that_fails_is_reported(monkeypatch):
    monkeypatch.setattr(HERE, "_run_workers", alone)
    with pytest.raises(UsageError, match="the first phase diverged"):
        swap("quadratic", "sgd(lr=1e9)", SECOND, workers=1, **{**PLAN, "until": -1.0})


@pytest.mark.parametrize(
    "bad",
    [
        {"workers": 0},
        {"first_steps": 0},
        {"second_steps": -1},
        {"first_batch": 1},
        {"until": "never"},
        {"until": float("nan")},
        {"seed": -1},
    ],
)
def test_impossible_settings_are_refused_before_any_process(bad, monkeypatch):
    monkeypatch.setattr(HERE, "_run_workers", None)
    with pytest.raises(UsageError, match="found"):
        swap("quadratic", FIRST, SECOND, **{**PLAN, "workers": 2, **bad})
    with pytest.raises(UsageError):
        swap("quadratic", "no-such-rule", SECOND, **PLAN)
