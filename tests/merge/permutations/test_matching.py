"""Units are matched: planted permutations come back exactly, and functions stay."""

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from thalweg.core.errors import UsageError
from thalweg.landscape import Objective
from thalweg.merge import merge, named
from thalweg.merge.permutations.activation_matching import activation_matching
from thalweg.merge.permutations.discover import discover
from thalweg.merge.permutations.matching import distance, moved_share
from thalweg.merge.permutations.merges import GitRebasin
from thalweg.merge.permutations.rebasin import align
from thalweg.merge.permutations.straight_through import straight_through
from thalweg.merge.permutations.structure import Axis, Group, Structure
from thalweg.merge.permutations.verification import verify
from thalweg.merge.permutations.weight_matching import merge_many, weight_matching


class Residual(nn.Module):
    """A convolutional network with a residual stream, batch norm and a flattened map."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.one = nn.Conv2d(6, 5, 3, padding=1, bias=False)
        self.inner = nn.BatchNorm2d(5)
        self.two = nn.Conv2d(5, 6, 3, padding=1)
        self.last = nn.Linear(6 * 4, 3)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.two(torch.relu(self.inner(self.one(x))))
        return self.last(nn.functional.avg_pool2d(x, 2).flatten(1))


class Attention(nn.Module):
    """A transformer block whose head is tied to its embedding."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.1, batch_first=True)
        self.head = nn.Linear(8, 7, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(self.block(self.embed(x)))


def mlp():
    return nn.Sequential(
        nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(),
        nn.Linear(7, 3),
    )  # fmt: skip


X = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
IMAGES = torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(1))
WORDS = torch.randint(7, (4, 5), generator=torch.Generator().manual_seed(2))
NETS = {"mlp": (mlp, X), "residual": (Residual, IMAGES), "attention": (Attention, WORDS)}


def made(kind, seed=0):
    torch.manual_seed(seed)
    model = NETS[kind][0]()
    with torch.no_grad():
        for name, x in model.state_dict().items():
            if x.is_floating_point() and x.ndim < 2:
                x.copy_(torch.rand(x.shape) + (0.5 if "bias" not in name else -0.5))
    return model.double().eval()


def example(kind):
    x = NETS[kind][1]
    return x.double() if x.is_floating_point() else x


@pytest.mark.parametrize("kind", NETS)
def test_a_planted_permutation_is_recovered_exactly_and_keeps_the_function(kind):
    model, x = made(kind), example(kind)
    structure = discover(model, x)
    assert verify(model, structure, x) < 1e-12
    planted = structure.random(3)
    shuffled = structure.apply(model.state_dict(), planted)
    other = copy.deepcopy(model)
    other.load_state_dict(shuffled)
    torch.testing.assert_close(other(x), model(x), rtol=1e-10, atol=1e-10)
    assert any(not torch.equal(shuffled[n], y) for n, y in model.state_dict().items())
    found = weight_matching(structure, model.state_dict(), shuffled)
    back = structure.apply(shuffled, found.permutations)
    for name, y in model.state_dict().items():
        assert torch.equal(back[name], y), name
    assert distance(model.state_dict(), back) == 0
    assert moved_share(structure, found.permutations) > 0.5


def test_what_moves_together_is_one_group():
    structure = discover(made("residual"), example("residual"))
    groups = {group.name: group for group in structure.groups}
    assert [group.size for group in groups.values()] == [6, 5]
    stream = {(axis.tensor, axis.axis, axis.inner) for axis in structure.groups[0].axes}
    assert {("stem.weight", 0, 1), ("norm.running_var", 0, 1), ("two.weight", 0, 1)} <= stream
    assert {("one.weight", 1, 1), ("last.weight", 1, 4)} <= stream
    assert structure.fixed["stem.weight", 2] == "positions in space or time"
    assert structure.fixed["last.weight", 0] == "it makes what the network returns"


def test_a_wrong_structure_is_noticed_and_named():
    model = made("mlp")
    wrong = Structure(
        (Group("0", 9, (Axis("0.weight", 0), Axis("0.bias", 0))),),
        {name: tuple(x.shape) for name, x in model.state_dict().items()},
    )
    with pytest.raises(UsageError, match='units of "0" changes the outputs'):
        verify(model, wrong, example("mlp"))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=3), st.integers(0, 1000))
def test_the_objective_never_falls_and_planted_permutations_come_back(widths, seed):
    torch.manual_seed(seed)
    sizes = [4, *widths, 2]
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    model = nn.Sequential(*(m for layer in layers for m in (layer, nn.Tanh()))).double()
    structure = discover(model, torch.randn(3, 4).double())
    other = {n: torch.randn_like(x) for n, x in model.state_dict().items()}
    found = weight_matching(structure, model.state_dict(), other, seed=seed)
    assert list(found.objective) == sorted(found.objective)
    planted = structure.apply(model.state_dict(), structure.random(seed))
    found = weight_matching(structure, model.state_dict(), planted, seed=seed)
    back = structure.apply(planted, found.permutations)
    assert distance(model.state_dict(), back) < 1e-12


def test_one_hidden_layer_needs_one_pass():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 30), nn.ReLU(), nn.Linear(30, 2)).double()
    structure = discover(model, torch.randn(2, 4).double())
    planted = structure.random(1)
    shuffled = structure.apply(model.state_dict(), planted)
    found = weight_matching(
        structure, model.state_dict(), shuffled, start=structure.identity(), passes=1
    )
    (name,) = found.permutations
    assert torch.equal(found.permutations[name], planted[name].argsort())


def objective(kind, model=None, batches=3):
    random = torch.Generator().manual_seed(5)
    shape = tuple(NETS[kind][1].shape[1:])
    data = [
        (torch.randn(12, *shape, generator=random).double(), torch.arange(12) % 3)
        for _ in range(batches)
    ]

    def loss(model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    return Objective(model or made(kind, 9), loss, data)


@pytest.mark.parametrize("by", ["moment", "correlation"])
@pytest.mark.parametrize("kind", ["mlp", "residual"])
def test_activations_find_planted_permutations(kind, by):
    goal = objective(kind)
    model = made(kind)
    before = {n: x.clone() for n, x in goal.module.state_dict().items()}
    structure = discover(model, example(kind))
    planted = structure.random(3)
    shuffled = structure.apply(model.state_dict(), planted)
    found = activation_matching(goal, structure, model.state_dict(), shuffled, by=by)
    back = structure.apply(shuffled, found.permutations)
    # Units that never fire are alike; all others are found.
    torch.testing.assert_close(
        _at(model, back, example(kind)), model(example(kind)), rtol=1e-9, atol=1e-9
    )
    right = [found.permutations[name] == order.argsort() for name, order in planted.items()]
    assert torch.cat(right).double().mean() > 0.7
    assert found.objective[1] > found.objective[0]
    for name, x in goal.module.state_dict().items():
        assert torch.equal(x, before[name])


def test_the_moment_that_is_matched_is_that_of_all_samples():
    goal, model, other = objective("mlp"), made("mlp"), made("mlp", 1)
    structure = discover(model, example("mlp"))
    found = activation_matching(goal, structure, model.state_dict(), other.state_dict())
    x = torch.cat([batch[0] for batch in goal.batches])
    total = 0.0
    for layer, group in ((1, 0), (3, 1), (5, 2)):
        a, b = (m[: layer + 1](x) for m in (model, other))
        order = found.permutations[structure.groups[group].name]
        total += float((a * b[:, order]).sum() / len(x))
    assert found.objective[1] == pytest.approx(total)


def _at(model, weights, x):
    other = copy.deepcopy(model)
    other.load_state_dict(weights)
    return other(x)


def test_straight_through_lowers_the_loss_half_way_and_leaves_the_model_alone():
    goal = objective("residual")
    before = {n: x.clone() for n, x in goal.module.state_dict().items()}
    first, second = made("residual").state_dict(), made("residual", 1).state_dict()
    kept = {n: x.clone() for n, x in first.items()}
    structure = discover(goal.module, example("residual"))
    found = straight_through(goal, structure, first, second, steps=30, lr=0.1)
    assert len(found.objective) == 30
    # Three batches take turns; the loss of each falls.
    assert sum(found.objective[-3:]) > sum(found.objective[:3])
    for name, x in goal.module.state_dict().items():
        assert torch.equal(x, before[name])
        assert torch.equal(first[name], kept[name])
    assert goal.module.training is False
    again = straight_through(goal, structure, first, second, steps=30, lr=0.1)
    assert again.objective == found.objective


def test_many_networks_are_brought_near_to_their_mean():
    model = made("mlp")
    structure = discover(model, example("mlp"))
    models = [structure.apply(model.state_dict(), structure.random(k)) for k in range(4)]
    orders = merge_many(structure, models)
    found = [structure.apply(m, p) for m, p in zip(models, orders, strict=True)]
    for one in found[1:]:
        assert distance(found[0], one) == 0


@pytest.mark.parametrize("by", ["weights", "activations", "straight-through"])
def test_the_merge_of_a_network_and_its_permutation_is_that_network(by):
    model = made("mlp")
    goal = objective("mlp")
    structure = discover(model, example("mlp"))
    shuffled = structure.apply(model.state_dict(), structure.random(4))
    if by == "straight-through":
        _, found = align(goal, model.state_dict(), shuffled, by)
        assert len(found.objective) == 200
        return
    found = merge(GitRebasin(by), [model.state_dict(), shuffled], objective=goal)
    torch.testing.assert_close(_at(model, found, example("mlp")), model(example("mlp")))
    if by == "weights":
        for name, x in model.state_dict().items():
            assert torch.equal(found[name], x)


def test_three_networks_and_shares():
    model = made("mlp")
    structure = discover(model, example("mlp"))
    models = [structure.apply(model.state_dict(), structure.random(k)) for k in range(3)]
    method = named("git-rebasin(weights=(0.2, 0.3, 0.5))")
    found = merge(method, models, objective=objective("mlp"))
    torch.testing.assert_close(_at(model, found, example("mlp")), model(example("mlp")))


def test_weights_of_eight_bits_are_matched():
    model = made("mlp")
    structure = discover(model, example("mlp"))
    state = {n: x.to(torch.float8_e4m3fn) for n, x in model.state_dict().items()}
    assert weight_matching(structure, state, state).permutations.keys() == {
        group.name for group in structure.groups
    }


def test_what_cannot_be_matched_is_refused():
    model, goal = made("mlp"), objective("mlp")
    state = model.state_dict()
    with pytest.raises(UsageError, match="by must be one of"):
        align(goal, state, state, "names")  # type: ignore[arg-type]
    broken = {**state, "2.weight": state["2.weight"] * float("nan")}
    with pytest.raises(UsageError, match="network 2 has entries that are not finite"):
        align(goal, state, broken)
    with pytest.raises(UsageError, match="is not of the network that was traced"):
        align(goal, state, {**state, "0.weight": torch.ones(3, 5)})
    with pytest.raises(UsageError, match="takes two models, found 3"):
        merge(GitRebasin("activations"), [state] * 3, objective=goal)
    with pytest.raises(UsageError, match="held-out data"):
        merge(GitRebasin(), [state, state])


def test_a_network_without_hidden_units_is_averaged():
    model = nn.Linear(2, 2)
    goal = Objective(model, lambda m, b: m(b).sum(), [torch.ones(1, 2)])
    one, other = ({n: x + k for n, x in model.state_dict().items()} for k in (0, 2))
    found = merge(GitRebasin(), [one, other], objective=goal)
    torch.testing.assert_close(found["weight"], one["weight"] + 1)
