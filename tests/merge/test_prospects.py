"""What a merge would gain: losses and barriers against the objective itself."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from typer.testing import CliRunner

from thalweg.cli.application import app
from thalweg.core.errors import UsageError
from thalweg.landscape import Objective
from thalweg.merge import Prospect, merge, prospect
from thalweg.merge.permutations import discover


def net(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def loss(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


@pytest.fixture
def objective():
    torch.manual_seed(5)
    x = torch.randn(40, 4)
    return Objective(net(9), loss, [(x, net(1)(x).argmax(1))])  # which network 1 solves


@torch.no_grad()
def at(objective, weights):
    model = net(0)
    model.load_state_dict(weights)
    return float(loss(model, objective.batches[0]))


def test_losses_gain_and_barriers(objective, tmp_path):
    one = {n: 4 * x for n, x in net(1).state_dict().items()}
    structure = discover(net(1), objective.batches[0][0])
    other = structure.apply(one, structure.random(2))
    third = net(3).state_dict()
    found = prospect(objective, {"a": one, "b": other, "c": third}, net(4).state_dict(), "ties")
    assert found.losses == pytest.approx([at(objective, w) for w in (one, other, third)])
    assert found.base == pytest.approx(at(objective, net(4).state_dict()))
    merged = merge("ties", [one, other, third], net(4).state_dict())
    assert found.merged == pytest.approx(at(objective, merged))
    assert found.gain == pytest.approx(min(found.losses) - found.merged)
    ways = []
    for t in [k / 10 for k in range(11)]:
        middle = {n: (1 - t) * x + t * other[n] for n, x in one.items()}
        ways.append(at(objective, middle) - (1 - t) * found.losses[0] - t * found.losses[1])
    assert found.pairs == [("a", "b"), ("a", "c"), ("b", "c")]
    assert found.before[0] == pytest.approx(max(ways), abs=1e-6)
    assert found.before[0] > 0.01
    assert found.after[0] == pytest.approx(0, abs=1e-6)  # a permutation of the first
    found.save(tmp_path / "prospect.npz")
    assert Prospect.load(tmp_path / "prospect.npz") == found
    found.plot(tmp_path / "prospect.svg")
    assert "units matched" in (tmp_path / "prospect.svg").read_text()


def test_a_model_beside_itself_has_no_barrier(objective):
    weights = net(1).state_dict()
    found = prospect(objective, {"a": weights, "b": weights})
    assert found.before == found.after == (0.0,)
    assert found.gain == pytest.approx(0, abs=1e-7)
    assert found.base != found.base
    with pytest.raises(UsageError, match="two models or more"):
        prospect(objective, {"a": weights})


def test_explain_with_a_workload_tells_barriers_and_the_gain(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = CliRunner()
    for seed in "12":
        words = ["train", "digits", "sgd(lr=0.1)", "--steps", "3", "--seed", seed]
        done = run.invoke(app, [*words, "--weights", f"{seed}.safetensors"])
        assert done.exit_code == 0, done.output
    words = ["merge", "--explain", "1.safetensors", "2.safetensors", "--workload", "digits"]
    done = run.invoke(app, [*words, "--samples", "64", "--out", "why"])
    assert done.exit_code == 0, done.output
    assert "model-soups" in done.output
    assert "than the best model" in done.output
    assert "with units matched" in done.output
    found = Prospect.load("why/prospect.npz")
    assert found.models == ("1.safetensors", "2.safetensors")
    assert "<svg" in (tmp_path / "why/prospect.svg").read_text()
