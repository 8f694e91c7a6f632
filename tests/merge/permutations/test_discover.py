"""Symmetries are found from one run, and what is not understood keeps its order."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from thalweg.core.errors import UsageError
from thalweg.merge.permutations import discover, verify, weight_matching


class Net(nn.Module):
    """A network of layers by name, and a function of it and its input."""

    def __init__(self, call, **layers):
        super().__init__()
        self.call = call
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *args):
        return self.call(self, *args)


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def grouped():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 1, groups=2), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(32, 7), nn.ReLU(), nn.Linear(7, 3),
    )  # fmt: skip


def norms():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.GroupNorm(4, 8), nn.ReLU(), nn.Conv2d(8, 4, 3),
        nn.InstanceNorm2d(4, affine=True), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 2),
    )  # fmt: skip


def joined():
    def call(net, x):
        a = F.relu(net.a(x))
        z = torch.cat([a, F.relu(net.b(a))], 1)
        return net.c(z.flatten(1)) + net.d(z.permute(0, 2, 3, 1).flatten(1))

    return Net(
        call,
        a=nn.Conv2d(1, 3, 3, padding=1),
        b=nn.Conv2d(3, 5, 3, padding=1),
        c=nn.Linear(128, 2),
        d=nn.Linear(128, 2),
    )


def one_projection():
    """Queries, keys and values from one layer, taken apart by a view."""

    def call(net, x):
        x = net.into(x)
        n, t, width = x.shape
        q, k, v = net.qkv(net.norm(x)).reshape(n, t, 3, 3, 4).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, width)
        return net.last((x + net.out(mixed)).mean(1))

    return Net(
        call,
        into=nn.Linear(4, 12),
        qkv=nn.Linear(12, 36),
        out=nn.Linear(12, 12),
        norm=nn.LayerNorm(12),
        last=nn.Linear(12, 2),
    )


def tied():
    """A transformer with learnt positions whose head is its embedding."""

    def call(net, words):
        x = net.embed(words) + net.places.weight[: words.shape[1]]
        return x.new_zeros(()) + net.head(net.block(x))

    net = Net(
        call,
        embed=nn.Embedding(9, 8),
        places=nn.Embedding(5, 8),
        block=nn.TransformerEncoderLayer(8, 2, 12, batch_first=True),
        head=nn.Linear(8, 9, bias=False),
    )
    net.head.weight = net.embed.weight
    return net


def padded():
    """A shortcut that pads channels with zeros."""

    def call(net, x):
        x = F.relu(net.a(x))
        x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)) + net.b(x)
        return net.last(F.relu(x).mean((2, 3)))

    return Net(
        call,
        a=nn.Conv2d(1, 4, 3, padding=1),
        b=nn.Conv2d(4, 8, 3, 2, padding=1),
        last=nn.Linear(8, 3),
    )


def gated():
    return Net(
        lambda net, x: net.out(net.cell(x)[0]),
        cell=nn.GRU(3, 5, num_layers=2, batch_first=True),
        out=nn.Linear(5, 2),
    )


def recurrent():
    return Net(lambda net, x: net.out(net.cell(x)[0]), cell=nn.LSTM(3, 5), out=nn.Linear(5, 2))


NETS = {
    "grouped": (grouped, draw(2, 1, 8, 8)),
    "norms": (norms, draw(2, 1, 8, 8)),
    "joined": (joined, draw(2, 1, 4, 4)),
    "one projection": (one_projection, draw(2, 5, 4)),
    "tied": (tied, torch.arange(8).reshape(2, 4)),
    "padded": (padded, draw(2, 1, 8, 8)),
    "recurrent": (recurrent, draw(4, 2, 3)),
    "gated": (gated, draw(2, 4, 3)),
}


def sizes(structure):
    return sorted((group.size, group.kind) for group in structure.groups)


@pytest.mark.parametrize("kind", NETS)
def test_found_permutations_keep_the_function_and_are_recovered(kind):
    make, example = NETS[kind]
    torch.manual_seed(0)
    model = make()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    structure = discover(model, example)
    assert verify(model, structure, example) < 1e-12
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    first = {
        name: torch.randn_like(x) if x.is_floating_point() else x for name, x in before.items()
    }
    first |= {name: first[other] for name, other in structure.tied.items()}
    second = structure.apply(first, structure.random(1))
    found = weight_matching(structure, first, second)
    back = structure.apply(second, found.permutations)
    assert all(torch.equal(back[name], x) for name, x in first.items())


def test_all_symmetries_of_known_networks_are_found():
    def found(kind):
        make, example = NETS[kind]
        return sizes(discover(make(), example))

    within = [(4, "within")] * 6  # of three heads: queries with keys, and values
    assert found("one projection") == [(3, "blocks"), *within, (12, "units")]
    assert found("joined") == [(3, "units"), (5, "units")]
    assert found("recurrent") == [(5, "units")]
    assert found("gated") == [(5, "units"), (5, "units")]
    assert found("norms") == [*[(2, "within")] * 4, (4, "blocks"), (4, "units"), (6, "units")]
    # The padded channels see nothing of the first layer, so they move among themselves.
    assert found("padded") == [(2, "units"), (2, "units"), (4, "units")]
    assert (8, "units") in found("tied")


def test_where_the_units_of_a_flattened_map_and_of_heads_are():
    flattened = discover(joined(), NETS["joined"][1])["b"]
    (axis,) = [axis for axis in flattened.axes if axis.tensor == "c.weight"]
    assert (axis.axis, axis.start, axis.outer, axis.inner, axis.role) == (1, 48, 1, 16, "reads")
    structure = discover(one_projection(), NETS["one projection"][1])
    (heads,) = [group for group in structure.groups if group.kind == "blocks"]
    places = {(axis.tensor, axis.axis, axis.start, axis.inner) for axis in heads.axes}
    assert places == {
        *(("qkv.weight", 0, start, 4) for start in (0, 12, 24)),
        *(("qkv.bias", 0, start, 4) for start in (0, 12, 24)),
        ("out.weight", 1, 0, 4),
    }


def through(between, width=6):
    """Return a network with something between two layers."""
    return Net(
        lambda net, x: net.last(between(net, net.first(x))),
        first=nn.Linear(3, width),
        last=nn.Linear(width, 2),
    )


ORDERED = {
    "cumsum": lambda net, x: x.cumsum(1),
    "flip": lambda net, x: x.flip(1),
    "roll": lambda net, x: x.roll(1, 1),
    "constant": lambda net, x: x * torch.arange(6.0, dtype=x.dtype),
    "index": lambda net, x: x[:, [1, 0, 2, 3, 4, 5]],
    "sort": lambda net, x: x.sort(1).values,
    "quantile": lambda net, x: x - x.quantile(0.5, 1, keepdim=True),
    "swapped in place": lambda net, x: x.clone().swapdims_(0, 1).flip(0).swapdims_(0, 1),
    "one unit": lambda net, x: x - x[:, :1] * x[:, 1:2] + x[:, 3:4],
    "determinant": lambda net, x: x * torch.linalg.det(x.mT @ x)[..., None],
}


@pytest.mark.parametrize("between", ORDERED)
def test_what_goes_by_the_order_of_units_is_never_permuted_wrongly(between):
    model = through(ORDERED[between])
    structure = discover(model, draw(4, 3))
    assert verify(model, structure, draw(4, 3)) < 1e-10
    if between not in ("one unit",):
        assert not structure.groups
        named = {one for names in structure.reasons.values() for one in names}
        assert "first.weight (axis 0)" in named


SYMMETRIC = {
    "softmax": lambda net, x: x.softmax(1),
    "normalised": lambda net, x: x / x.norm(dim=1, keepdim=True),
    "centred": lambda net, x: x - x.mean(1, keepdim=True),
    "scaled": lambda net, x: x * torch.full((6,), 2.0, dtype=x.dtype),
    "there and back": lambda net, x: x.unsqueeze(1).expand(-1, 2, -1).transpose(1, 2).sum(2),
    "in place": lambda net, x: x.clone().mul_(2).clamp_(-1, 1),
    "clamped": lambda net, x: torch.where(x > 0, x, x.exp() - 1),
    "dropped": lambda net, x: F.dropout(x, 0.5, training=False),
    "hard": lambda net, x: F.hardswish(F.logsigmoid(x)),
    "filled": lambda net, x: torch.empty_like(x).copy_(x).masked_fill_(x < 0, 0.0),
    "turned in place": lambda net, x: x.clone().t_().unsqueeze_(0).transpose_(1, 2).squeeze_(0),
    "in single": lambda net, x: x * (x @ torch.ones(6, 6)).float(),
}


@pytest.mark.parametrize("between", SYMMETRIC)
def test_what_treats_units_alike_leaves_them_free(between):
    model = through(SYMMETRIC[between])
    structure = discover(model, draw(4, 3))
    assert sizes(structure) == [(6, "units")]
    assert verify(model, structure, draw(4, 3)) < 1e-12


def test_a_residual_to_the_output_keeps_the_order_and_positions_join_their_group():
    def call(net, x):
        return x + net.last(F.relu(net.first(x)))

    structure = discover(Net(call, first=nn.Linear(3, 4), last=nn.Linear(4, 3)), draw(2, 3))
    assert [group.name for group in structure.groups] == ["first"]

    model = tied()
    stream = next(g for g in discover(model, NETS["tied"][1]).groups if g.size == 8)
    assert {"places.weight", "embed.weight", "head.weight"} <= {a.tensor for a in stream.axes}


def test_unused_weights_and_unusable_examples_are_named():
    model = Net(lambda net, x: net.used(x), used=nn.Linear(3, 2), idle=nn.Linear(4, 4))
    reasons = discover(model, draw(2, 3)).reasons
    assert "idle.weight (axis 0)" in reasons["the network does not use it"]
    with pytest.raises(UsageError, match="cannot be run on the example"):
        discover(model, draw(2, 5))


@settings(max_examples=25, deadline=None)
@given(
    widths=st.lists(st.integers(2, 6), min_size=1, max_size=3),
    steps=st.lists(st.sampled_from(["linear", "residual", "norm", "cat", "act"]), max_size=5),
    seed=st.integers(0, 1000),
)
def test_permutations_of_random_networks_keep_the_function(widths, steps, seed):
    torch.manual_seed(seed)
    layers, plan, width = [nn.Linear(3, widths[0])], [], widths[0]
    for place, step in enumerate(steps):
        if step == "linear":
            out = widths[place % len(widths)]
            layers.append(nn.Linear(width, out))
            width = out
        elif step in ("residual", "cat"):
            layers.append(nn.Linear(width, width))
            width *= 2 if step == "cat" else 1
        elif step == "norm":
            layers.append(nn.LayerNorm(width))
        plan.append(step)
    layers.append(nn.Linear(width, 2))

    def call(net, x):
        pending = list(net.layers)
        x = pending.pop(0)(x)
        for step in plan:
            if step == "act":
                x = torch.tanh(x)
            elif step in ("linear", "norm"):
                x = pending.pop(0)(x)
            else:
                y = pending.pop(0)(x)
                x = x + y if step == "residual" else torch.cat([x, y], -1)
        return pending.pop(0)(x)

    model = Net(call, layers=nn.ModuleList(layers))
    structure = discover(model, draw(4, 3))
    assert verify(model, structure, draw(4, 3), seed=seed) < 1e-9
    assert structure.groups  # at the least, the units in front of the last layer move


def test_stacked_units_are_the_same_only_where_the_stack_is_used_whole():
    def call(net, x, whole):
        z = torch.stack([net.one(x), net.other(x)], 1)
        if whole:
            return net.last((z @ z.mT).flatten(1))
        return net.last(torch.cat([net.first(z[:, 0]), net.second(z[:, 1])], 1))

    layers = {
        "one": nn.Linear(3, 5),
        "other": nn.Linear(3, 5),
        "first": nn.Linear(5, 2),
        "second": nn.Linear(5, 2),
        "last": nn.Linear(4, 2),
    }
    model = Net(call, **layers)
    for whole, groups in ((True, 1), (False, 2)):
        structure = discover(model, (draw(4, 3), whole))
        assert [size for size, _ in sizes(structure)].count(5) == groups
        assert verify(model, structure, (draw(4, 3), whole)) < 1e-12
