"""Kronecker factors against dense matrices where they are exact, and against their formula."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.landscape import Objective
from thalweg.landscape.curvature import (
    GaussNewton,
    KroneckerFactored,
    eigenpairs,
    kronecker_factored,
)


def squares(model: Any, batch: Any) -> Tensor:
    return 0.5 * (model(batch[0]) - batch[1]).square().flatten(1).sum(1).mean()


def cross_entropy(model: Any, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def dense(k: KroneckerFactored) -> Tensor:
    return k @ torch.eye(k.shape[0], dtype=k.dtype)


def blocks_of(k: KroneckerFactored, matrix: Tensor) -> Tensor:
    """Return the matrix with zeros between the layers."""
    found = torch.zeros_like(matrix)
    for block in k.blocks:
        i = block.rows.reshape(-1)
        found[i[:, None], i] = matrix[i[:, None], i]
    return found


def test_one_sample_is_exact() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.Flatten(), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 4, bias=False)
    ).double()
    objective = Objective(
        model, cross_entropy, [(torch.randn(1, 2, 3, 3).double(), torch.tensor([2]))]
    )
    found = kronecker_factored(objective)
    exact = GaussNewton(objective).dense()
    torch.testing.assert_close(dense(found), blocks_of(found, exact))
    assert found.left_out == ("2.weight", "2.bias")
    assert found.trace() == pytest.approx(float(blocks_of(found, exact).trace()))


def test_deep_linear_nets_with_squares_are_exact() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False), nn.Linear(2, 3)).double()
    batches = [(torch.randn(n, 3).double(), torch.randn(n, 3).double()) for n in (5, 3)]
    objective = Objective(model, squares, batches)
    found = kronecker_factored(objective)
    exact = blocks_of(found, GaussNewton(objective).dense())
    torch.testing.assert_close(dense(found), exact)
    torch.testing.assert_close(found.diagonal(), exact.diagonal())
    fisher = kronecker_factored(objective, likelihood="gaussian")
    torch.testing.assert_close(dense(fisher), exact)
    v = torch.randn(len(exact), 2).double()
    shifted = exact + 0.1 * torch.eye(len(exact))
    torch.testing.assert_close(found.solve(v, 0.1), torch.linalg.solve(shifted, v))
    assert eigenpairs(found, 1).values[0] == pytest.approx(
        float(torch.linalg.eigvalsh(exact)[-1]), rel=1e-3
    )
    drawn = dense(kronecker_factored(objective, draws=400))
    assert float((drawn - exact).norm()) < 0.2 * float(exact.norm())


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(2, 3, 3, stride=2, padding=1, dilation=2), (2, 7, 6)),
        (nn.Conv2d(2, 3, (2, 3), padding="same", padding_mode="reflect", bias=False), (2, 5, 5)),
        (nn.Conv1d(2, 3, 4, stride=3, padding=2, padding_mode="circular"), (2, 9)),
        (nn.Linear(2, 3), (4, 2)),
    ],
)
def test_the_formula_with_positions(layer: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(2)
    layer = layer.double()
    x = torch.randn(4, *shape).double()
    head = torch.randn(layer(x)[0].numel(), 5).double()

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).tanh().flatten(1) @ head

    model = Net()
    objective = Objective(model, squares, [(x, torch.randn(4, 5).double())])
    (block,) = kronecker_factored(objective).blocks
    # The layer's output at a position by its weights holds what the weights multiply there.
    params = list(layer.parameters())
    out = layer(x)
    channels = out.movedim(1 if out.ndim > 3 or isinstance(layer, nn.Conv1d) else -1, -1)
    inner = []
    for value in channels[..., 0].reshape(-1):
        grads = torch.autograd.grad(value, params, retain_graph=True)
        inner.append(torch.cat([grads[0][0].reshape(-1), *(g[:1] for g in grads[1:])]))
    a = torch.stack(inner)
    torch.testing.assert_close(block.inner, a.mT @ a / len(a))
    by_outputs = torch.autograd.functional.jacobian(lambda o: o.tanh().flatten(1) @ head, out)
    total = 0
    for i in range(4):
        for j in range(5):
            g = by_outputs[i, j, i]  # sample i, output j
            g = g.movedim(-1 if isinstance(layer, nn.Linear) else 0, -1).reshape(-1, 3)
            total = total + g.mT @ g
    torch.testing.assert_close(block.outer, total / 4)


def test_shared_and_frozen_parameters() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Linear(3, 3)).double()
    model[2].weight = model[0].weight
    model[3].bias.requires_grad_(False)
    objective = Objective(model, squares, [(torch.ones(2, 3).double(), torch.ones(2, 3).double())])
    found = kronecker_factored(objective)
    assert [block.layer for block in found.blocks] == ["3"]
    assert found.blocks[0].rows.tolist() == torch.arange(15, 24).reshape(3, 3).tolist()
    assert found.left_out == ("0.weight", "0.bias", "2.bias")


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_computed_weights_are_left_out(norm: Any) -> None:
    model = nn.Sequential(norm(nn.Linear(3, 3)), nn.Linear(3, 3)).double()
    x = torch.ones(2, 3).double()
    before = copy.deepcopy(model.state_dict())
    found = kronecker_factored(Objective(model, squares, [(x, x)]))
    assert [block.layer for block in found.blocks] == ["1"]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_layer_that_is_called_twice_counts_both_calls() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) + self.layer(2 * x)

    x = torch.randn(3, 2).double()
    objective = Objective(Twice().double(), squares, [(x, x)])
    (block,) = kronecker_factored(objective).blocks
    torch.testing.assert_close(block.inner, 2.5 * x.mT @ x / 3)
    torch.testing.assert_close(block.outer, 2 * torch.eye(2).double())


def test_what_cannot_be_factored_is_refused() -> None:
    embedding = nn.Embedding(3, 2)
    objective = Objective(embedding, lambda m, b: m(b).square().mean(), [torch.arange(3)])
    with pytest.raises(UsageError, match="nothing to factor"):
        kronecker_factored(objective)
    x = torch.ones(2, 3)
    objective = Objective(nn.Linear(3, 3), squares, [(x, x)])
    with pytest.raises(UsageError, match="one draw"):
        kronecker_factored(objective, draws=0)
    found = kronecker_factored(objective)
    with pytest.raises(UsageError, match="12 entries"):
        found @ torch.ones(3)
    with pytest.raises(UsageError, match="positive"):
        found.solve(torch.ones(12), 0.0)


def test_the_model_stays_as_it_was_also_after_an_error() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    x = torch.ones(2, 3)
    fine = Objective(model, squares, [(x, x)])
    bad = Objective(model, lambda m, b: m(b[0]).sum(), [(x, x)])
    bad.loss = lambda m, b: m(b[0].mean(0, keepdim=True)).sum()
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    kronecker_factored(fine, draws=1)
    with pytest.raises(UsageError, match="first dimension"):
        kronecker_factored(bad)
    assert all(torch.equal(before[name], x) for name, x in model.state_dict().items())
    assert all(module.training and not module._forward_hooks for module in model.modules())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.equal(random, torch.get_rng_state())
