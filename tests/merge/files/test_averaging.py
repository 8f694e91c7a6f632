"""Averages of checkpoints on disk against explicit sums, and what is refused."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.average.points import Vector, walk
from torch import nn
from typer.testing import CliRunner

from thalweg.average import PowerEMA
from thalweg.average.profiles import exponent
from thalweg.cli.application import app
from thalweg.core.errors import UsageError
from thalweg.merge.files.averaging import choose_points, in_order

STEPS = (5, 90, 100, 1000)


def point(step):
    generator = torch.Generator().manual_seed(step)
    return {
        "w": torch.randn(3, 2, generator=generator),
        "half": torch.randn(4, generator=generator).bfloat16(),
        "bn.running_mean": torch.randn(2, generator=generator),
        "count": torch.tensor(step),
        "table": torch.arange(3) + step,
    }


def run(*words):
    done = CliRunner().invoke(app, ["average", *map(str, words)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    for step in STEPS:
        save_file(point(step), f"run/step-{step}.safetensors")
    return tmp_path


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ((), (1, 1, 1, 1)),
        (("--last", "2"), (0, 0, 1, 1)),
        (("--weights", "1,2,0,4"), (1, 2, 0, 4)),
        (("--ema", "0.5"), (1, 2, 4, 8)),
        (("--ema", "0"), (0, 0, 0, 1)),
        (("--ema", "0.5", "--last", "3"), (0, 1, 2, 4)),
    ],
)
def test_averages_are_the_explicit_sums_in_the_order_of_steps(options, weights, folder):
    output = run("run", *options)
    found = load_file(folder / "average/model.safetensors")
    points = [point(step) for step in STEPS]
    for name in ("w", "half", "bn.running_mean"):
        total = sum(w * x[name].double() for w, x in zip(weights, points, strict=True))
        expected = (total / sum(weights)).to(found[name].dtype)
        exact = 0.01 if name == "half" else 1e-6
        torch.testing.assert_close(found[name], expected, rtol=exact, atol=exact)
    assert int(found["count"]) == 1000
    assert torch.equal(found["table"], torch.arange(3) + 1000)
    assert "step-1000.safetensors" in output
    assert "batch-norm statistics are means" in output
    assert "config.json" not in output


def test_torch_files_and_names_in_any_order(folder):
    names = []
    for step in (10, 9):
        names.append(f"model{step}.pt")
        torch.save({"state_dict": point(step)}, names[-1])
    run(*names, "--weights", "1,3", "--dtype", "float64")
    found = load_file(folder / "average/model.safetensors")["w"]
    expected = (point(9)["w"].double() + 3 * point(10)["w"].double()) / 4
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "wanted", [("--width", 0.07), ("--ema", 0.9), ("--width", 0.15, "--at", 45)]
)
def test_averages_after_the_run_come_from_snapshots(wanted, tmp_path):
    points, model = walk(3, 60), Vector(3)
    kept = PowerEMA((0.05, 0.1), snapshots=12, folder=tmp_path / "kept").attach(model)
    for step, x in enumerate(points):
        model.w.data.copy_(x)
        kept.update(step, len(points))
    output = run(tmp_path / "kept", *wanted, "--out", tmp_path / "out")
    found = load_file(tmp_path / "out/model.safetensors")["w"]
    at = 45 if "--at" in wanted else 60
    asked = {"width": wanted[1]} if wanted[0] == "--width" else {"decay": wanted[1]}
    again, error = kept.reconstruct(at=at, **asked)
    torch.testing.assert_close(found, again["w"], rtol=1e-9, atol=1e-9)
    if "width" in asked:
        edges = np.arange(at + 1) / at
        shares = torch.from_numpy(np.diff(edges ** (exponent(wanted[1]) + 1)))
    else:
        shares = torch.tensor([wanted[1] ** (at - k) for k in range(1, at + 1)]).double()
        shares /= shares.sum()
    gap = (found - shares @ points[:at]).norm()
    assert gap <= error * shares.norm() * (points[:at] - points[:at].mean(0)).norm() * (1 + 1e-6)
    assert "off the one asked for" in output


def test_batch_norm_is_recalibrated_and_the_average_compared(folder):
    (folder / "task.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "def data():\n"
        "    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))\n"
        "    found = torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True))\n"
        "    return found, found\n"
        "batch_size = 8\n"
        "steps = 4\n"
        "def model():\n"
        "    return nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))\n"
        "def loss(model, batch):\n"
        "    return (model(batch[0]) - batch[1]).square().mean()\n"
        "def metric(model, batch):\n"
        "    return loss(model, batch)\n"
    )
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    for i in (1, 2):
        torch.manual_seed(i)
        net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))
        save_file(net.state_dict(), f"net-{i}.safetensors")
    output = run("net-1.safetensors", "net-2.safetensors", "--workload", "task.py", "--samples", 40)
    found = load_file(folder / "average/model.safetensors")
    torch.testing.assert_close(found["0.running_mean"], x.mean(0), rtol=1e-5, atol=1e-6)
    assert output.count("net-1.safetensors") == 2
    assert "statistics are means" not in output
    last = output.strip().splitlines()[-1].split()
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))
    net.load_state_dict(found)
    with torch.no_grad():
        metric = float((net.eval()(x) - x.sum(1, keepdim=True)).square().mean())
    assert last[0] == "average"
    assert float(last[1]) == pytest.approx(metric, rel=1e-3)


def test_orders(tmp_path):
    def names(*given):
        return [str(path) for path in in_order([tmp_path / name for name in given])]

    assert names("a-10", "a-9") == names("a-9", "a-10")
    assert names("epoch=1-step=1000", "epoch=0-step=500")[0].endswith("500")
    assert names("b", "a")[0].endswith("b")
    assert names("1-2", "2-1")[0].endswith("1-2")
    assert names("2-1", "1-2")[0].endswith("2-1")


def test_what_cannot_be_used_is_refused_and_leaves_nothing(folder):
    bad = point(7)
    bad["w"][0, 0] = float("nan")
    save_file(bad, "nan-7.safetensors")
    save_file({**point(8), "w": torch.zeros(2, 2)}, "shape-8.safetensors")
    for name, files in {
        "race": ("race.sqlite",),
        "state": ("state.json", "tensors.safetensors"),
        "mixed": ("a.safetensors", "b.safetensors"),
        "empty": (),
    }.items():
        (folder / name).mkdir()
        for file in files:
            (folder / name / file).write_text("")
    one = "run/step-5.safetensors"
    for words, message in (
        (("none",), "there is no checkpoint none"),
        ((one, "nan-7.safetensors"), '"w" in nan-7.safetensors has entries that are NaN'),
        ((one, "shape-8.safetensors"), '"w" has the shape 3x2'),
        (("run", "--last", "5"), "last is 5, and there are 4"),
        (("run", "--last", "0"), "last must be a whole number of at least 1"),
        (("run", "--weights", "1,2"), "weights has 2 numbers for 4"),
        (("run", "--weights", "1,x,2,3"), "numbers such as"),
        (("run", "--weights", "1,-2,1,-1"), "weights must be numbers of at least 0"),
        (("run", "--ema", "1"), r"ema must be a number in \[0, 1\)"),
        (("run", "--ema", "0.5", "--weights", "1,2,3,4"), "give one of them"),
        (("run", "--width", "0.1"), "for one folder with snapshots"),
        (("run", "--dtype", "int8"), "--dtype must be one of"),
        (("race",), "is a race"),
        (("state",), "the state of a training run"),
        (("mixed",), "the order of the checkpoints in mixed is not known"),
        (("empty",), "holds no checkpoints"),
        (("run", "--workload", "digits"), "has not the weights of"),
    ):
        with pytest.raises(UsageError, match=message):
            run(*words)
        assert not (folder / "average").exists(), words
    with pytest.raises(UsageError, match="nothing to average"):
        choose_points([])


def test_snapshots_ask_for_a_width_or_a_decay(tmp_path):
    model = Vector(2)
    for name in ("one", "two"):
        kept = PowerEMA((0.1,), snapshots=2, folder=tmp_path / name).attach(model)
        with torch.no_grad():
            model.w.add_(1)
        for step in range(4):
            kept.update(step, 4)
    for words in ((), ("--last", "1"), ("--width", "0.1", "--last", "1")):
        with pytest.raises(UsageError, match="give the width of the average"):
            run(tmp_path / "one", *words, "--out", tmp_path / "out")
    for file in (tmp_path / "two").iterdir():
        file.rename(tmp_path / "one" / f"snapshot-9{file.name[8:]}")
    with pytest.raises(UsageError, match="snapshots of 2 runs"):
        run(tmp_path / "one", "--width", "0.1", "--out", tmp_path / "out")
