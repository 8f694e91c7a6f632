"""OT fusion and REPAIR as merges by name, in memory and on files."""

import copy
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from thalweg.core.errors import UsageError
from thalweg.landscape import Objective
from thalweg.merge import merge, merge_files, named
from thalweg.merge.permutations.discover import discover
from thalweg.merge.permutations.merges import examples
from thalweg.merge.permutations.repair import preactivations, repair
from thalweg.merge.permutations.transport import fuse, transport


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)
    )


def loss(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


@pytest.fixture
def objective():
    torch.manual_seed(7)
    data = [(torch.randn(n, 5), torch.randint(3, (n,))) for n in (20, 20, 9)]
    return Objective(net(), loss, data[:1], calibration=data)


def test_permuted_models_fuse_to_the_reference(objective):
    other = net(1)
    other.load_state_dict(repair(objective, other.state_dict(), [preactivations(objective)]))
    structure = discover(other, torch.randn(4, 5))
    one = structure.apply(other.state_dict(), structure.random(3))
    for text in ("ot-fusion", "ot-fusion(repair=True)", "ot-fusion(by='activations', samples=30)"):
        found = merge(text, [one, other], objective=objective)
        for name, x in other.state_dict().items():
            if "running" not in name:
                torch.testing.assert_close(found[name], x, rtol=1e-5, atol=1e-6, msg=name)


def test_they_do_what_the_functions_do(objective):
    one, other = net(1), net(2)
    x = examples(objective, 30)
    assert torch.equal(x[0], torch.cat([b[0] for b in objective.calibration])[:30])
    fused = fuse([one, other], x, weights=(0.3, 0.7), reference=0)
    found = merge("ot-fusion(weights=(0.3, 0.7), reference=0)", [one, other], objective=objective)
    for name in ("0.weight", "1.bias", "5.weight"):
        assert torch.equal(found[name], fused[name])
    assert not torch.equal(found["1.running_mean"], fused["1.running_mean"])  # of the data

    moments = [preactivations(objective, m.state_dict()) for m in (one, other)]
    moments[0] = transport(one, other, x).moments(moments[0])
    repaired = repair(objective, fuse([one, other], x), moments)
    found = merge("ot-fusion(repair=True)", [one, other], objective=objective)
    for name, x in repaired.items():
        torch.testing.assert_close(found[name], x)

    ends = [preactivations(objective, m.state_dict()) for m in (one, other)]
    mean = merge("model-soups(weights=(1, 3))", [one, other])
    found = merge("repair(after='model-soups(weights=(1, 3))')", [one, other], objective=objective)
    for name, x in repair(objective, mean, ends, (1, 3)).items():
        torch.testing.assert_close(found[name], x)


def test_files_are_fused_like_models_in_memory(objective, tmp_path):
    models = [net(1).state_dict(), net(2).state_dict()]
    for place, weights in enumerate(models):
        save_file(weights, tmp_path / f"{place}.safetensors")
    paths = [tmp_path / f"{place}.safetensors" for place in range(2)]
    done = merge_files("ot-fusion", paths, out=tmp_path / "out", objective=objective)
    found = load_file(tmp_path / "out" / "model.safetensors")
    for name, x in merge("ot-fusion", models, objective=objective).items():
        assert torch.equal(found[name], x)
    record = json.loads((tmp_path / "out" / "merge.json").read_text())
    assert record["merge"] == "OTFusion"
    assert "made" not in record["settings"]
    assert "made" not in repr(done.method)
    assert not any("batch-norm" in note for note in done.notes)


def test_what_does_not_fit_is_refused(objective):
    for text in ("ties", "fisher-merge", "ot-fusion"):
        with pytest.raises(UsageError, match="repair cannot follow"):
            named(f"repair(after='{text}')")
    for text in ("by='x'", "repair=1", "reference=0.5", "samples=0", "weights=(0, 0)"):
        with pytest.raises(UsageError):
            named(f"ot-fusion({text})")
    other = copy.deepcopy(objective.module)
    other.append(nn.Linear(3, 3))
    models = [other.state_dict()] * 2
    for text in ("ot-fusion", "repair"):
        with pytest.raises(UsageError, match="not the model's weights"):
            merge(text, models, objective=objective)
