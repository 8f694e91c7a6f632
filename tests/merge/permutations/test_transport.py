"""Optimal transport fusion: identities, planted permutations and copies, and the paper's loop."""

import copy
import sys

import ot
import pytest
import torch
from torch import nn

from thalweg.core.errors import UsageError
from thalweg.merge.permutations.discover import discover
from thalweg.merge.permutations.plans import TransportSettings
from thalweg.merge.permutations.repair import preactivations
from thalweg.merge.permutations.transport import fuse, transport


def mlp(one=8, two=6, seed=0, bias=True):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(5, one, bias=bias),
        nn.ReLU(),
        nn.Linear(one, two, bias=bias),
        nn.ReLU(),
        nn.Linear(two, 3, bias=bias),
    )


class Net(nn.Module):
    """Convolutions with batch norm, a residual stream, and a flattened map."""

    def __init__(self, width=6, inner=5, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.stem, self.norm = nn.Conv2d(1, width, 3), nn.BatchNorm2d(width)
        self.one, self.inner = nn.Conv2d(width, inner, 3, padding=1), nn.BatchNorm2d(inner)
        self.two = nn.Conv2d(inner, width, 1)
        self.head = nn.Linear(width * 4 + inner, 3)
        with torch.no_grad():
            for x in (*self.parameters(), *self.buffers()):
                if x.is_floating_point():
                    x.add_(0.2 * torch.rand_like(x))

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        y = self.inner(self.one(x)).relu()
        x = (x + self.two(y)).relu()
        pooled = nn.functional.max_pool2d(x, 3)
        return self.head(torch.cat([y.mean((2, 3)), pooled.flatten(1)], 1))


EXAMPLES = {mlp: torch.randn(30, 5), Net: torch.randn(30, 1, 8, 8)}
SETTINGS = [
    TransportSettings(by=by, marginals=marginals)
    for by in ("weights", "activations")
    for marginals in ("proper", "constant")
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: f"{s.by}-{s.marginals}")
@pytest.mark.parametrize("make", [mlp, Net])
def test_a_network_is_transported_to_itself_by_the_identity(make, settings):
    model, x = make(), EXAMPLES[make]
    found = transport(model, copy.deepcopy(model), x, settings)
    assert found.plans
    for name, plan in found.plans.items():
        torch.testing.assert_close(plan, torch.eye(len(plan), dtype=plan.dtype) / len(plan))
        assert found.costs[name] < 1e-12
    fused = fuse([model, copy.deepcopy(model)], x, settings=settings)
    for name, own in model.state_dict().items():
        torch.testing.assert_close(fused[name], own, rtol=1e-6, atol=0)
        if settings.marginals == "proper":
            assert torch.equal(fused[name], own)


@pytest.mark.parametrize("by", ["weights", "activations"])
@pytest.mark.parametrize("make", [mlp, Net])
def test_a_permuted_network_is_carried_back_exactly(make, by):
    other, x = make(), EXAMPLES[make]
    structure = discover(other, x)
    model = copy.deepcopy(other)
    model.load_state_dict(structure.apply(other.state_dict(), structure.random(1)))
    assert not torch.equal(*(next(m.parameters()) for m in (model, other)))
    fused = fuse([model, other], x, settings=TransportSettings(by=by))
    for name, own in other.state_dict().items():
        assert torch.equal(fused[name], own), name


@pytest.mark.parametrize("solver", ["exact", "sinkhorn"])
@pytest.mark.parametrize("make", [mlp, Net])
def test_plans_have_uniform_marginals(make, solver):
    found = transport(
        make(7, 9), make(8, 6, seed=1), EXAMPLES[make], TransportSettings(solver=solver, reg=0.1)
    )
    sizes = {tuple(plan.shape) for plan in found.plans.values()}
    assert sizes == {(7, 8), (9, 6)}
    for plan in found.plans.values():
        rows, columns = plan.shape
        assert bool((plan >= 0).all())
        close = {"rtol": 0, "atol": 1e-9 if solver == "exact" else 1e-6}
        torch.testing.assert_close(plan.sum(1), torch.full_like(plan[:, 0], 1 / rows), **close)
        torch.testing.assert_close(plan.sum(0), torch.full_like(plan[0], 1 / columns), **close)


@pytest.mark.parametrize("past", [True, False])
@pytest.mark.parametrize("proper", [True, False])
def test_it_is_the_papers_loop(past, proper):
    """The published algorithm for layers without biases, written out; outputs stay."""
    widths = [(7, 9), (8, 6)] if past else [(8, 6), (8, 6)]
    one, other = (mlp(*w, seed=i, bias=False) for i, w in enumerate(widths))
    plan, expected = None, []
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        a, b = a.detach().double(), b.detach().double()
        hat = a if plan is None else a @ plan
        rows, columns = len(a), len(b)
        if rows == columns == 3:
            expected.append((hat if past else a) / 2 + b / 2)
            break
        cost = (hat[:, None] - b[None]).square().sum(2).sqrt()
        uniform = [torch.full((n,), 1 / n, dtype=torch.float64).numpy() for n in (rows, columns)]
        plan = torch.from_numpy(ot.emd(*uniform, cost.numpy()))
        plan = plan / plan.sum(0) if proper else plan * rows
        expected.append((plan.T @ (hat if past else a) + b) / 2)
    settings = TransportSettings(marginals="proper" if proper else "constant", past_correction=past)
    fused = fuse([one, other], EXAMPLES[mlp], settings=settings)
    for x, y in zip(fused.values(), expected, strict=True):
        torch.testing.assert_close(x.double(), y, rtol=1e-6, atol=1e-7)


def test_more_than_two_and_weights():
    models, x = [mlp(seed=i) for i in range(3)], EXAMPLES[mlp]
    fused = fuse(models, x, weights=(0.2, 0.5, 0.3), reference=1)
    carried = [transport(m, models[1], x).carry(m.state_dict()) for m in (models[0], models[2])]
    for name, own in models[1].state_dict().items():
        expected = 0.2 * carried[0][name] + 0.5 * own.double() + 0.3 * carried[1][name]
        torch.testing.assert_close(fused[name].double(), expected, rtol=1e-6, atol=1e-7)


def test_different_widths_give_a_network_of_the_reference():
    for make in (mlp, Net):
        one, other = make(7, 9), make(8, 6, seed=1)
        for settings in SETTINGS:
            fused = fuse([one, other], EXAMPLES[make], settings=settings)
            assert list(fused) == list(other.state_dict())
            other.load_state_dict(fused)
            assert bool(other(EXAMPLES[make]).isfinite().all())
            other = make(8, 6, seed=1)


def test_moments_move_with_their_units():
    from thalweg.landscape import Objective

    other, x = mlp(), EXAMPLES[mlp]
    structure = discover(other, x)
    model = copy.deepcopy(other)
    model.load_state_dict(structure.apply(other.state_dict(), structure.random(1)))
    objective = Objective(other, lambda m, b: m(b[0]).square().mean(), [(x,)])
    theirs = preactivations(objective)
    ours = transport(model, other, x).moments(preactivations(objective, model.state_dict()))
    for name, moments in theirs.items():
        torch.testing.assert_close(ours[name].mean, moments.mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(ours[name].std, moments.std, rtol=1e-5, atol=1e-6)


def test_networks_stay_as_they_were():
    models = [Net(), Net(seed=1)]
    before = copy.deepcopy([m.state_dict() for m in models])
    for by in ("weights", "activations"):
        fuse(models, EXAMPLES[Net], settings=TransportSettings(by=by))
    for model, old in zip(models, before, strict=True):
        assert model.training
        for name, x in model.state_dict().items():
            assert torch.equal(x, old[name])


def test_what_does_not_fit_is_refused(monkeypatch):
    x = EXAMPLES[mlp]
    with pytest.raises(UsageError, match="differ in more than widths: 2"):
        fuse([mlp()[:2].append(nn.Linear(8, 3)), mlp()], x)
    with pytest.raises(UsageError, match="without past_correction"):
        fuse([mlp(7), mlp()], x, settings=TransportSettings(past_correction=False))
    with pytest.raises(UsageError, match="one weight for each"):
        fuse([mlp(), mlp()], x, weights=(1.0,))
    with pytest.raises(UsageError, match="the place of a network, found 2"):
        fuse([mlp(), mlp()], x, reference=2)
    with pytest.raises(UsageError, match="shapes"):
        fuse([nn.Linear(5, 3), nn.Linear(5, 4)], x)
    for wrong in ({"by": "x"}, {"solver": "x"}, {"reg": 0}, {"marginals": "x"}, {"passes": 0}):
        with pytest.raises(UsageError):
            TransportSettings(**wrong)
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(UsageError, match=r"thalweg\[transport\]"):
        fuse([mlp(), mlp()], x)
