"""A picture found in a small network's loss."""

import copy
import math

import pytest
import torch
from torch import nn

from thalweg.core.errors import UsageError
from thalweg.landscape import Objective, find_pattern

PICTURE = ["110", "101", "011"]
CELLS = [[cell == "1" for cell in row] for row in PICTURE]


def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def small():
    torch.manual_seed(0)
    x = torch.randn(60, 2)
    y = (x[:, 0] * x[:, 1] > 0).long()
    return nn.Sequential(nn.Linear(2, 24), nn.BatchNorm1d(24), nn.Tanh(), nn.Linear(24, 2)), (x, y)


def test_a_picture_is_found():
    model, batch = small()
    model.eval()
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    found = find_pattern(model, loss, CELLS, lambda step: batch, steps=200, lr=0.02, ceiling=1.5)
    assert all(torch.equal(before[name], x) for name, x in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert not any(module.training for module in model.modules())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    losses = found.losses(Objective(model, loss, [batch]))
    low = [
        v
        for row, cells in zip(losses, CELLS, strict=True)
        for v, cell in zip(row, cells, strict=True)
        if cell
    ]
    high = [
        v
        for row, cells in zip(losses, CELLS, strict=True)
        for v, cell in zip(row, cells, strict=True)
        if not cell
    ]
    assert max(low) < 0.5 < 1.0 < min(high)
    right, up = (torch.cat([x.reshape(-1) for x in d]) for d in (found.right, found.up))
    assert abs(float(right @ up)) < 1e-4 * float(right @ right)
    assert float(up.norm()) == pytest.approx(float(right.norm()), rel=1e-4)
    middle = found.weights(1, 1)
    assert all(torch.equal(a, b) for a, b in zip(middle, found.origin, strict=True))


def test_a_cell_above_the_ceiling_is_left_alone():
    model, batch = small()
    found = find_pattern(model, loss, [[False]], lambda step: batch, steps=3, ceiling=0.1)
    for p, o in zip(model.parameters(), found.origin, strict=True):
        assert torch.equal(p, o)


@pytest.mark.parametrize(
    "words", [{"picture": []}, {"picture": [[True], []]}, {"steps": 0}, {"lr": 0.0}, {"scale": 0.0}]
)
def test_impossible_arguments_are_refused(words):
    model, batch = small()
    settings = {"picture": CELLS, "steps": 1, **words}
    with pytest.raises(UsageError, match=r"a picture needs|a pattern needs"):
        find_pattern(model, loss, batch_at=lambda step: batch, **settings)


def test_a_loss_that_is_not_finite():
    model, batch = small()
    model.train()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UsageError, match="smaller lr"):
        find_pattern(model, lambda m, b: loss(m, b) * math.nan, CELLS, lambda step: batch, steps=1)
    assert all(torch.equal(before[name], x) for name, x in model.state_dict().items())
    assert all(module.training for module in model.modules())
