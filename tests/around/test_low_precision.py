"""Low-precision training, and its average in full precision (SWALP)."""

import copy

import pytest
import torch
from torch import nn

from thalweg import optim
from thalweg.around import LowPrecision
from thalweg.average import SWA
from thalweg.core.errors import UsageError
from thalweg.engine.block_floating_point import block_quantised
from thalweg.recipe import Recipe


def test_a_step_is_the_papers_with_momentum():
    w = torch.randn(6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = nn.Parameter(w.clone())
    optimizer = LowPrecision(torch.optim.SGD([p], lr=0.1, momentum=0.9), activations=False)
    m = torch.zeros_like(w)
    for step in range(5):
        g = torch.randn(6, generator=torch.Generator().manual_seed(step + 1), dtype=torch.float64)
        p.grad = g.clone()
        optimizer.step()
        assert torch.equal(p.grad, g)
        m = 0.9 * m + block_quantised(g, 8, step, 0)
        w = block_quantised(w - 0.1 * m, 8, step, 1)
        m = block_quantised(m, 8, step, 2)
        assert torch.equal(p.detach(), w)


def descend(bits, steps=2000):
    """Return the squared errors of the last point and of the average of the last three quarters."""
    generator = torch.Generator().manual_seed(0)
    # Far from a power of two, at which the block's exponent changes and the largest is clipped.
    best = 1.2 + 0.4 * torch.rand(50, generator=generator, dtype=torch.float64)
    model = nn.Linear(50, 1, bias=False, dtype=torch.float64)
    base = torch.optim.SGD(model.parameters(), lr=0.05)
    optimizer = base if bits is None else LowPrecision(base, bits, activations=False)
    average = SWA(0.25).attach(model)
    last = 0.0
    for step in range(steps):
        model.weight.grad = model.weight.detach() - best
        optimizer.step()
        average.update(step, steps)
        last += (model.weight.detach() - best).square().sum().item() * (step >= steps // 2)
    mean = (average.weights()["weight"] - best).square().sum().item()
    return 2 * last / steps, mean


def test_the_average_goes_below_the_noise_floor_of_low_precision():
    floors, means = zip(*(descend(bits) for bits in (6, 8)), strict=True)
    # The floor grows with the spacing of numbers; the average is far below it.
    assert floors[0] > 3 * floors[1]
    assert means[0] < floors[0] / 20
    assert means[1] < floors[1] / 20


def test_layers_round_what_they_give_and_the_errors_that_come_back():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    plain = copy.deepcopy(model)
    LowPrecision(optim.SGD(model, lr=0.1), 4, model=model)
    x = torch.randn(3, 4)
    out = model(x)
    first = block_quantised(plain[0](x), 4, 0, -2)
    assert torch.equal(out, block_quantised(plain[2](plain[1](first)), 4, 0, -4))
    (out * torch.tensor([[1.0, 0.3]])).sum().backward()
    error = block_quantised(torch.tensor([[1.0, 0.3]]).expand(3, 2), 4, 0, -3)
    torch.testing.assert_close(model[2].bias.grad, error.sum(0))
    assert torch.equal(model.eval()(x), plain(x))
    with torch.no_grad():
        assert torch.equal(model.train()(x), plain(x))


def test_resumes_bit_for_bit():
    def make():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
        recipe = Recipe.parse("sgd(lr=0.1, momentum=0.9) + low-precision(6)")
        return model, recipe.build(model, 10).optimizer

    def go(model, optimizer, steps):
        for step in steps:
            x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))

            def closure(x=x):
                optimizer.zero_grad()
                loss = model(x).square().mean()
                loss.backward()
                return loss

            optimizer.step(closure)

    whole, optimizer = make()
    go(whole, optimizer, range(10))
    first, half = make()
    go(first, half, range(5))
    second, other = make()
    second.load_state_dict(first.state_dict())
    other.load_state_dict(half.state_dict())
    go(second, other, range(5, 10))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters()))  # noqa: B905


def test_refusals():
    model = nn.Linear(2, 2)
    with pytest.raises(UsageError, match="found 1"):
        LowPrecision(optim.SGD(model, lr=0.1), 1, model=model)
    with pytest.raises(UsageError, match="pass model"):
        LowPrecision(optim.SGD(model, lr=0.1))
    with pytest.raises(UsageError, match="never sees rounded ones"):
        LowPrecision(optim.LBFGS(model, lr=0.1), model=model)
    with pytest.raises(UsageError, match='no "low-precision"'):
        LowPrecision(optim.SGD(model, lr=0.1), model=model).load_state_dict(
            optim.SGD(model, lr=0.1).state_dict()
        )
