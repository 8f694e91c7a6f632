"""REPAIR against its definition: moments of the repaired network are the interpolated ones."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from thalweg.core.errors import UsageError
from thalweg.landscape import Objective
from thalweg.merge import merge
from thalweg.merge.permutations.repair import preactivations, repair


class Residual(nn.Module):
    """A convolution with batch norm, a residual block, grouped and transposed convolutions."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.one = nn.Conv2d(6, 6, 3, padding=1, groups=3)
        self.two = nn.Conv2d(6, 6, 1)
        self.up = nn.ConvTranspose2d(6, 4, 2, groups=2)
        self.hidden = nn.Linear(4 * 7 * 7, 9)
        self.head = nn.Linear(9, 3)

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        x = (x + self.two(self.one(x).relu())).relu()
        return self.head(self.hidden(self.up(x).relu().flatten(1)).tanh())


def loss(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


def networks(count, make=Residual, shape=(1, 8, 8), samples=50):
    """Return an objective over uneven batches and weights of that many networks."""
    torch.manual_seed(0)
    x, y = torch.randn(samples, *shape), torch.randint(3, (samples,))
    data = list(zip(x.split(19), y.split(19), strict=True))
    ends = []
    for seed in range(count):
        torch.manual_seed(seed)
        model = make()
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.add_(0.3 * torch.randn_like(p))
                if name == "norm.weight":
                    p.abs_()
        ends.append(copy.deepcopy(model.state_dict()))
    return Objective(model, loss, data), ends


def by_hand(objective, weights, names):
    """Return moments of the layers' outputs, all samples in one batch."""
    model = copy.deepcopy(objective.module).eval().double()
    model.load_state_dict(weights)
    seen = {}
    for name in names:
        layer = model.get_submodule(name)

        def keep(_, args, out, name=name):
            rows = out.movedim(1, -1).flatten(0, -2)
            seen[name] = (rows.mean(0), rows.std(0, correction=0))

        layer.register_forward_hook(keep)
    with torch.no_grad():
        model(torch.cat([x for x, _ in objective.batches]).double())
    return seen


def test_moments_are_those_of_all_samples():
    objective, (weights,) = networks(1)
    found = preactivations(objective, weights)
    assert set(found) == {"one", "two", "up", "hidden"}  # not before a norm, not what is returned
    for name, (mean, std) in by_hand(objective, weights, found).items():
        torch.testing.assert_close(found[name].mean, mean, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found[name].std, std, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("alpha", [None, (0.2, 0.5, 0.3)])
def test_units_get_the_interpolated_moments(alpha):
    objective, models = networks(3)
    before = copy.deepcopy(objective.module.state_dict())
    ends = [preactivations(objective, w) for w in models]
    merged = merge("model-soups", models)
    names = [*ends[0], "norm"]
    collapsed = by_hand(objective, merged, names)
    repaired = repair(objective, merged, ends, alpha)
    found = by_hand(objective, repaired, names)
    shares = alpha or (1 / 3,) * 3
    for name in ends[0]:
        mean = sum(a * end[name].mean for a, end in zip(shares, ends, strict=True))
        std = sum(a * end[name].std for a, end in zip(shares, ends, strict=True))
        torch.testing.assert_close(found[name][0], mean, atol=2e-5, rtol=2e-5)
        torch.testing.assert_close(found[name][1], std, atol=2e-5, rtol=2e-5)
        assert not torch.allclose(collapsed[name][1], std, rtol=1e-2)
    # Batch norm: its outputs have its own shift and scale for moments, but for its eps.
    variance = repaired["norm.running_var"].double()
    spread = merged["norm.weight"] * (variance / (variance + 1e-5)).sqrt()
    torch.testing.assert_close(found["norm"][0], merged["norm.bias"].double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(found["norm"][1], spread, atol=0, rtol=1e-5)
    for name in ("stem.weight", "head.weight", "head.bias", "norm.weight", "norm.bias"):
        assert repaired[name] is merged[name]
    for name, x in objective.module.state_dict().items():
        assert torch.equal(x, before[name])


def test_a_network_merged_with_itself_stays_itself():
    objective, (weights,) = networks(1)
    weights = repair(objective, weights, [preactivations(objective, weights)])  # norms reset
    again = repair(objective, weights, [preactivations(objective, weights)] * 2)
    for name, x in again.items():
        torch.testing.assert_close(x, weights[name], atol=1e-6, rtol=1e-5)


def plain():
    return nn.Sequential(
        nn.Linear(5, 6, bias=False), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3)
    )


def test_a_layer_without_bias_is_rescaled_alone():
    objective, models = networks(2, plain, (5,))
    ends = [preactivations(objective, w) for w in models]
    repaired = repair(objective, merge("model-soups", models), ends)
    found = preactivations(objective, repaired)
    torch.testing.assert_close(found["0"].std, (ends[0]["0"].std + ends[1]["0"].std) / 2)
    torch.testing.assert_close(found["2"].mean, (ends[0]["2"].mean + ends[1]["2"].mean) / 2)
    assert set(repaired) == set(models[0])


def test_a_unit_that_does_not_vary_is_only_shifted():
    objective, models = networks(2, plain, (5,))
    ends = [preactivations(objective, w) for w in models]
    merged = merge("model-soups", models)
    merged["2.weight"][1] = 0
    repaired = repair(objective, merged, ends)
    assert all(x.isfinite().all() for x in repaired.values())
    found = preactivations(objective, repaired)["2"]
    assert found.std[1] == 0
    torch.testing.assert_close(found.mean, (ends[0]["2"].mean + ends[1]["2"].mean) / 2)


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(5, 5), nn.Linear(5, 5)
        self.tied = nn.Linear(5, 5)
        self.two.weight = self.tied.weight
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(5, 5))
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        x = self.one(self.one(x).relu()).relu()
        return self.head(self.normed(self.tied(self.two(x).relu()).relu()).relu()).log_softmax(-1)


def test_shared_and_computed_weights_are_left_alone():
    objective, models = networks(2, Shared, (5,))
    assert set(preactivations(objective)) == {"one"}
    repaired = repair(objective, models[0], [preactivations(objective, w) for w in models])
    changed = {name for name, x in repaired.items() if not torch.equal(x, models[0][name])}
    assert changed == {"one.weight", "one.bias"}


def test_progress_counts_the_layers():
    objective, models = networks(2)
    told = []
    repair(
        objective,
        models[0],
        [preactivations(objective, w) for w in models],
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(i, 5) for i in range(1, 6)]


def test_what_does_not_fit_is_refused():
    objective, models = networks(2)
    ends = [preactivations(objective, w) for w in models]
    with pytest.raises(UsageError, match="one weight for each"):
        repair(objective, models[0], ends, (1.0,))
    with pytest.raises(UsageError, match="moments, and one"):
        repair(objective, models[0], [])
    with pytest.raises(UsageError, match="at least 0"):
        repair(objective, models[0], ends, (1.0, -1.0))
    with pytest.raises(UsageError, match='end 2 has no moments of the layer "one"'):
        repair(objective, models[0], [ends[0], {}])
    narrow = {**ends[1], "up": ends[1]["one"]}
    with pytest.raises(UsageError, match='end 1 has 6 units of the layer "up", which has 4'):
        repair(objective, models[0], [narrow])
    with pytest.raises(UsageError, match="not the model's weights"):
        repair(objective, {"x": torch.ones(2)}, ends)
