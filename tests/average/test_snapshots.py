"""Power-function averages whose snapshots are files: explicit sums, crashes, other runs."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tests.average.points import Vector, follow, walk
from torch import nn

from thalweg.average import PowerEMA
from thalweg.average.profiles import exponent
from thalweg.average.snapshots import Weights, find_snapshots
from thalweg.core.errors import UsageError
from thalweg.train import Callback, fit

STEPS = 60


def profile(points, gamma):
    return torch.from_numpy(np.diff((np.arange(points + 1) / points) ** (gamma + 1)))


def contents(folder):
    """Return the tensors and the facts of each file, by its name."""
    found = {}
    for one in find_snapshots(folder):
        with safe_open(one.file, "pt") as file:
            tensors = {name: x.tolist() for name, x in load_file(one.file).items()}
            found[one.file.name] = tensors, file.metadata()
    return found


def test_files_hold_the_explicit_sums_and_say_what_they_are(tmp_path):
    points = walk(3, STEPS)
    follow(PowerEMA((0.05, 0.1), snapshots=4, folder=tmp_path), points)
    found = find_snapshots(tmp_path)
    assert [one.points for one in found] == [15, 15, 30, 30, 45, 45, 60, 60]
    assert len({one.run for one in found}) == 1
    for one in found:
        expected = profile(one.points, one.exponent) @ points[: one.points]
        torch.testing.assert_close(load_file(one.file)["w"], expected, rtol=1e-12, atol=1e-12)
    assert {one.exponent for one in found} == {exponent(0.05), exponent(0.1)}


@pytest.mark.parametrize("wanted", [{"width": 0.07}, {"decay": 0.9}, {"width": 0.15, "at": 45}])
def test_reconstruction_from_files_is_that_from_memory_and_near_the_explicit_sum(wanted, tmp_path):
    points = walk(3, STEPS)
    plain, _ = follow(PowerEMA((0.05, 0.1), snapshots=12), points)
    average, _ = follow(PowerEMA((0.05, 0.1), snapshots=12, folder=tmp_path / "new"), points)
    expected, error = plain.reconstruct(**wanted)
    found, told = average.reconstruct(**wanted)
    assert told == pytest.approx(error, rel=1e-6)
    torch.testing.assert_close(found["w"], expected["w"], rtol=1e-9, atol=1e-9)
    at = wanted.get("at", STEPS)
    if "width" in wanted:
        shares = profile(at, exponent(wanted["width"]))
    else:
        shares = torch.tensor([wanted["decay"] ** (at - k) for k in range(1, at + 1)]).double()
        shares /= shares.sum()
    gap = (found["w"] - shares @ points[:at]).norm()
    assert gap <= error * shares.norm() * (points[:at] - points[:at].mean(0)).norm() * (1 + 1e-6)


def test_the_state_holds_no_snapshot_and_a_run_goes_on_with_its_files(tmp_path):
    points = walk(3, STEPS)
    settings = PowerEMA((0.1,), snapshots=6, folder=tmp_path)
    whole, _ = follow(settings, points)
    kept = contents(tmp_path)
    assert not any("snapshot" in name for name in whole.state_dict())
    expected, _ = whole.reconstruct(width=0.2)

    model = Vector(3)
    first = settings.attach(model)
    for step in range(35):  # three files are rewritten with what they held
        model.w.data.copy_(points[step])
        first.update(step, STEPS)
    second = settings.attach(Vector(3))
    second.load_state_dict(first.state_dict())
    at_30, _ = second.reconstruct(width=0.2, at=30)
    torch.testing.assert_close(at_30["w"], whole.reconstruct(width=0.2, at=30)[0]["w"])
    # What was written after the checkpoint, by the process that died, is no part of this run yet.
    now, _ = second.reconstruct(width=0.1)
    gamma = exponent(0.1)
    torch.testing.assert_close(now["w"], profile(35, gamma) @ points[:35], rtol=1e-9, atol=1e-9)
    model = second._followed.model
    for step in range(35, STEPS):
        model.w.data.copy_(points[step])
        second.update(step, STEPS)
    assert contents(tmp_path) == kept
    torch.testing.assert_close(second.reconstruct(width=0.2)[0]["w"], expected["w"])


def test_another_run_or_other_settings_are_refused_before_anything_is_written(tmp_path):
    follow(PowerEMA((0.1,), snapshots=4, folder=tmp_path), walk(3, STEPS))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    for settings, points in (
        (PowerEMA((0.1,), snapshots=4, folder=tmp_path), walk(3, STEPS, seed=1)),
        (PowerEMA((0.1,), snapshots=4, folder=tmp_path), walk(3, 2 * STEPS)),
        (PowerEMA((0.2,), snapshots=4, folder=tmp_path), walk(3, STEPS)),
        (PowerEMA((0.1,), snapshots=5, folder=tmp_path), walk(3, STEPS)),
    ):
        with pytest.raises(UsageError, match="another run, or of other settings"):
            follow(settings, points)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    follow(PowerEMA((0.1,), snapshots=4, folder=tmp_path), walk(3, STEPS))  # the same, again


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(2, 2, bias=False)
        self.other = nn.Linear(2, 2, bias=False)
        self.other.weight = self.one.weight
        self.register_buffer("table", torch.ones(2), persistent=False)
        self.register_buffer("seen", torch.tensor(0))


def test_files_hold_what_the_state_dict_holds_and_name_ties(tmp_path):
    model = Tied()
    average = PowerEMA((0.1,), snapshots=2, folder=tmp_path).attach(model)
    for step in range(10):
        with torch.no_grad():
            model.one.weight.fill_(step)
            model.seen += 1
        average.update(step, 10)
    (*_, last) = find_snapshots(tmp_path)
    with safe_open(last.file, "pt") as file:
        assert set(file.keys()) == {"one.weight", "seen"}
        assert file.metadata()["other.weight"] == "one.weight"
    found, _ = average.reconstruct(width=0.2)
    assert found.keys() == {"one.weight", "seen"}
    assert int(found["seen"]) == 10
    weights = Weights(last.file)
    assert len(weights) == 2
    with pytest.raises(KeyError):
        weights["table"]


def test_low_precision_and_a_model_of_16_bits(tmp_path):
    model = nn.Linear(3, 3).bfloat16()
    for precision in ("bfloat16", None):
        folder = tmp_path / str(precision)
        average = PowerEMA((0.1,), snapshots=1, folder=folder, precision=precision).attach(model)
        average.update(0, 1)
        (one,) = find_snapshots(folder)
        assert load_file(one.file)["weight"].dtype == (
            torch.bfloat16 if precision else torch.float32
        )


def test_a_run_that_was_interrupted_ends_with_the_same_files(tmp_path, monkeypatch):
    class Stop(Callback):
        def __init__(self, at):
            self.at = at

        def on_step(self, run, step, loss):
            if step == self.at:
                raise KeyboardInterrupt

    def run(place, stop=None):
        monkeypatch.chdir(place)
        recipe = "sgd(lr=0.05) + power-ema(widths=(0.1,), snapshots=5, folder='kept')"
        callbacks = [Stop(stop)] if stop else []
        return fit(
            "quadratic", recipe, steps=40, evaluate_every=10, checkpoint="c", callbacks=callbacks
        )

    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole = run(tmp_path / "whole")
    for stop in (9, 27):  # before there is any checkpoint, and after one
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "broken", stop)
    again = run(tmp_path / "broken")
    assert torch.equal(whole.weights["x"], again.weights["x"])
    files = contents(tmp_path / "whole/kept")
    assert len(files) == 5
    assert contents(tmp_path / "broken/kept") == files


def test_what_cannot_be_used_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        PowerEMA(folder=tmp_path / "file")
    with pytest.raises(UsageError, match="must be a path, found 3"):
        PowerEMA(folder=3)
    damaged = tmp_path / "snapshot-0-0000000001.safetensors"
    damaged.write_bytes(b"no header")
    with pytest.raises(UsageError, match="cannot read"):
        find_snapshots(tmp_path)
    facts = json.dumps({"__metadata__": {"thalweg": "power-ema snapshot"}}).encode()
    damaged.write_bytes(len(facts).to_bytes(8, "little") + facts)
    with pytest.raises(UsageError, match="does not say what it is"):
        find_snapshots(tmp_path)
    assert find_snapshots(tmp_path / "absent") == []
