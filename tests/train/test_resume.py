"""A run that was interrupted and continued ends, bit for bit, like one that was not."""

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from train_problems import (
    ALGORITHMS,
    Interrupt,
    PowerCutError,
    blobs,
    loss,
    parts,
    without_times,
    workload,
)

from thalweg import optim
from thalweg.core.errors import UsageError
from thalweg.train import Callback, fit


def continued(problem, algorithm, folder, *stops, **settings):
    for stop in stops:
        with pytest.raises(PowerCutError):
            fit(problem, algorithm, checkpoint=folder, callbacks=[Interrupt(stop)], **settings)
    return fit(problem, algorithm, checkpoint=folder, **settings)


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("stops", [(1,), (5,), (12,), (4, 8)])
def test_bit_for_bit(name, stops, tmp_path):
    algorithm = ALGORITHMS[name]
    whole = fit(workload(), algorithm, seed=3)
    again = continued(workload(), algorithm, tmp_path, *stops, seed=3, checkpoint_every=1)
    assert without_times(again) == without_times(whole)
    assert again.peak_bytes is not None


@pytest.mark.parametrize(
    "settings",
    [
        {"checkpoint_every": 5},
        {"checkpoint_every": None},
        {"accumulate": 3, "checkpoint_every": 4},
        {"precision": "bfloat16", "checkpoint_every": 4},
        {"precision": "float16", "checkpoint_every": 4},
    ],
    ids=str,
)
def test_bit_for_bit_with_settings(settings, tmp_path):
    algorithm = ALGORITHMS["adamw, linear, ema"]
    checkpoint_every = settings.pop("checkpoint_every")
    whole = fit(workload(), algorithm, **settings)
    again = continued(
        workload(), algorithm, tmp_path, 7, 10, checkpoint_every=checkpoint_every, **settings
    )
    assert without_times(again) == without_times(whole)


def test_the_scale_of_float16_goes_on(tmp_path):
    # So steep that the first scales overflow: a run that forgot its scale would skip updates.
    problem = workload(loss=lambda model, batch: 100 * loss(model, batch))
    algorithm = ALGORITHMS["torch's adam"]
    whole = fit(problem, algorithm, precision="float16")
    again = continued(problem, algorithm, tmp_path, 9, precision="float16", checkpoint_every=8)
    assert without_times(again) == without_times(whole)
    assert len({point.train_loss for point in whole.curve}) == len(whole.curve)


class Augmented(Dataset):
    def __init__(self):
        self.x, self.y = blobs(30, 2)

    def __len__(self):
        return 30

    def __getitem__(self, i):
        return self.x[i] + 0.1 * torch.randn(4) + float(np.random.rand()), self.y[i]


@pytest.mark.parametrize("kind", ["map", "loader"])
def test_bit_for_bit_with_augmented_data(kind, tmp_path):
    data = Augmented() if kind == "map" else DataLoader(Augmented(), batch_size=8, shuffle=True)
    problem = workload(train=data)
    algorithm = ALGORITHMS["sgd, swa"]
    whole = fit(problem, algorithm)
    again = continued(problem, algorithm, tmp_path, 7, checkpoint_every=2)
    assert without_times(again) == without_times(whole)


def test_a_finished_run_is_not_run_again(tmp_path):
    first = fit(workload(), ALGORITHMS["schedule-free"], checkpoint=tmp_path)

    class Refuse(Callback):
        def on_step(self, run, step, loss):
            raise AssertionError("it trained")

    second = fit(workload(), ALGORITHMS["schedule-free"], checkpoint=tmp_path, callbacks=[Refuse()])
    assert without_times(first) == without_times(second)
    assert (first.seconds, first.curve) == (second.seconds, second.curve)
    assert first.seconds_per_step == second.seconds_per_step
    assert first.peak_bytes == second.peak_bytes


def test_time_goes_on(tmp_path):
    with pytest.raises(PowerCutError):
        fit(
            workload(),
            ALGORITHMS["soap"],
            checkpoint=tmp_path,
            checkpoint_every=5,
            callbacks=[Interrupt(6)],
        )
    (path,) = tmp_path.iterdir()
    assert path.name == "step-0000000005"
    result = fit(workload(), ALGORITHMS["soap"], checkpoint=tmp_path, checkpoint_every=5)
    assert all(a.seconds < b.seconds for a, b in zip(result.curve, result.curve[1:], strict=False))
    assert result.curve[-1].seconds == result.seconds


def test_only_the_newest_checkpoint_is_kept(tmp_path):
    seen = []

    class Look(Callback):
        def on_checkpoint(self, run, path):
            seen.append((run.step, [entry.name for entry in tmp_path.iterdir()], path.name))

    fit(workload(), ALGORITHMS["sgd, swa"], checkpoint=tmp_path, callbacks=[Look()])
    assert seen == [(s, [f"step-{s:010d}"], f"step-{s:010d}") for s in (3, 6, 9, 12)]


def test_starting_over(tmp_path):
    algorithm = ALGORITHMS["sgd, swa"]
    fit(workload(), algorithm, checkpoint=tmp_path)
    steps = []

    class Count(Callback):
        def on_step(self, run, step, loss):
            steps.append(step)

    fit(workload(), algorithm, checkpoint=tmp_path, resume=False, callbacks=[Count()])
    assert steps == list(range(1, 13))


@pytest.mark.parametrize(
    ("changed", "problem", "message"),
    [
        ({"steps": 20}, {}, "steps was 12 and is 20"),
        ({"seed": 1}, {}, "seed was 0 and is 1"),
        ({"precision": "bfloat16"}, {}, "precision was 'float32' and is 'bfloat16'"),
        ({"accumulate": 2}, {}, "accumulate was 1 and is 2"),
        ({"evaluate_every": 4}, {}, "evaluate_every was 3 and is 4"),
        ({}, {"batch_size": 6}, "batch_size was 12 and is 6"),
        ({}, {"name": "other"}, "workload was 'blobs' and is 'other'"),
    ],
)
def test_other_settings_are_refused(changed, problem, message, tmp_path):
    algorithm = ALGORITHMS["sgd, swa"]
    fit(workload(), algorithm, checkpoint=tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(UsageError, match=message):
        fit(dataclasses.replace(workload(), **problem), algorithm, checkpoint=tmp_path, **changed)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_another_algorithm_is_refused(tmp_path):
    def one(model, steps):
        return optim.SGD(model, lr=0.1)

    def two(model, steps):
        return optim.SGD(model, lr=0.2)

    fit(workload(), one, checkpoint=tmp_path)
    with pytest.raises(UsageError, match=r"recipe was .*one' and is .*two'"):
        fit(workload(), two, checkpoint=tmp_path)


def test_an_edited_task_file_is_refused(tmp_path):
    from thalweg.workload import load, write_template

    path = write_template(tmp_path / "task.py")
    fit(load(path), ALGORITHMS["sgd, swa"], steps=2, checkpoint=tmp_path / "run")
    path.write_text(path.read_text().replace("64", "32"))
    with pytest.raises(UsageError, match="task file was"):
        fit(load(path), ALGORITHMS["sgd, swa"], steps=2, checkpoint=tmp_path / "run")


def test_a_crash_while_writing_leaves_the_one_before(tmp_path, monkeypatch):
    algorithm = ALGORITHMS["adamw, linear, ema"]
    whole = fit(workload(), algorithm)
    rename = Path.rename

    def fail(self, target):
        if target.name == "step-0000000006":
            raise PowerCutError
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(PowerCutError):
        fit(workload(), algorithm, checkpoint=tmp_path)
    monkeypatch.undo()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[1:] == ["step-0000000003"]
    assert names[0].startswith(".step-0000000006")
    again = fit(workload(), algorithm, checkpoint=tmp_path)
    assert without_times(again) == without_times(whole)
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000000012"]


def test_kill_minus_nine(tmp_path):
    script = textwrap.dedent("""
        import os, signal, sys
        sys.path.insert(0, sys.argv[2])
        from train_problems import ALGORITHMS, workload
        from thalweg.train import Callback, fit

        class Kill(Callback):
            def on_step(self, run, step, loss):
                if step == 8:
                    os.kill(os.getpid(), signal.SIGKILL)

        fit(workload(), ALGORITHMS["adamw, linear, ema"], checkpoint=sys.argv[1],
            checkpoint_every=3, callbacks=[Kill()], threads=1)
    """)
    here = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path), here], env=os.environ)
    assert done.returncode == -signal.SIGKILL
    algorithm = ALGORITHMS["adamw, linear, ema"]
    again = fit(workload(), algorithm, checkpoint=tmp_path, checkpoint_every=3, threads=1)
    assert without_times(again) == without_times(fit(workload(), algorithm, threads=1))


def test_an_optimiser_whose_state_cannot_be_saved(tmp_path):
    class Odd(torch.optim.SGD):
        def state_dict(self):
            return {**super().state_dict(), "odd": object()}

    with pytest.raises(UsageError, match='"/optimizer/odd", a object'):
        fit(workload(), lambda m, s: Odd(m.parameters(), lr=0.1), checkpoint=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="choose another folder"):
        fit(workload(), parts(lambda m: optim.SGD(m, lr=0.1)), checkpoint=tmp_path / "file")
