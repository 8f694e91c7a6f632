"""Diagonals of curvature matrices against the dense matrices of small nets."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.landscape import Objective
from thalweg.landscape.curvature import (
    EmpiricalFisher,
    Fisher,
    GaussNewton,
    Hessian,
    diagonal,
    empirical_fisher_diagonal,
    gauss_newton_diagonal,
)


class Attention(nn.Module):
    """Attention whose embedding and head are one tensor, with an output at every position."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(4, 4)
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True, dropout=0.1)
        self.norm = nn.LayerNorm(4)

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        x = self.embed(tokens)
        x = self.norm(x + self.attend(x, x, x, need_weights=False)[0])
        return {"logits": x @ self.embed.weight.mT}


def conv_net() -> nn.Module:
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.SiLU(), nn.Flatten(), nn.Linear(8, 4)
    )
    net[1].running_var.fill_(0.7)
    return net


def cross_entropy(model: Any, batch: Any) -> Tensor:
    out = model(batch[0])
    out = out["logits"] if isinstance(out, dict) else out
    return nn.functional.cross_entropy(out.reshape(-1, 4), batch[1].reshape(-1))


def make(name: str) -> Objective:
    torch.manual_seed(4)
    batches = []
    for n in (5, 2):
        if name == "conv":
            batches.append((torch.randn(n, 1, 4, 4).double(), torch.randint(4, (n,))))
        else:
            batches.append((torch.randint(4, (n, 3)), torch.randint(4, (n, 3))))
    model = conv_net() if name == "conv" else Attention()
    return Objective(model.double(), cross_entropy, batches)


@pytest.mark.parametrize("name", ["conv", "attention"])
def test_exact_diagonals(name: str) -> None:
    objective = make(name)
    exact = GaussNewton(objective).dense().diagonal()
    torch.testing.assert_close(gauss_newton_diagonal(objective), exact)
    for likelihood in ("categorical", "gaussian"):
        found = gauss_newton_diagonal(objective, likelihood=likelihood)
        torch.testing.assert_close(found, Fisher(objective, likelihood).dense().diagonal())
    found = empirical_fisher_diagonal(objective)
    torch.testing.assert_close(found, EmpiricalFisher(objective).dense().diagonal())


@pytest.mark.parametrize("name", ["conv", "attention"])
def test_drawn_diagonals_are_right_on_average(name: str) -> None:
    objective = make(name)
    exact = gauss_newton_diagonal(objective)
    each = torch.stack([gauss_newton_diagonal(objective, draws=1, seed=s) for s in range(150)])
    error = each.std(0) / 150**0.5
    assert bool(((each.mean(0) - exact).abs() <= 5 * error + 1e-9).all())
    many = gauss_newton_diagonal(objective, draws=150)
    assert float((many - exact).norm()) < 0.3 * float((each[0] - exact).norm())


def test_the_diagonal_of_the_hessian_by_probes() -> None:
    hessian = Hessian(make("conv"))
    exact = hessian.dense().diagonal()
    found, error = diagonal(hessian, 400)
    assert bool(((found - exact).abs() <= 5 * error + 1e-9).all())


def test_a_loss_that_is_not_convex_in_the_outputs() -> None:
    model = nn.Linear(2, 3).double()
    objective = Objective(
        model, lambda m, b: m(b).tanh().sum(1).mean(), [torch.randn(6, 2).double()]
    )
    exact = GaussNewton(objective).dense().diagonal()
    assert float(exact.min()) < 0 < float(exact.max())
    torch.testing.assert_close(gauss_newton_diagonal(objective), exact)
    with pytest.raises(UsageError, match="not convex"):
        gauss_newton_diagonal(objective, draws=1)


def test_a_loss_that_is_linear_in_the_outputs_has_no_curvature() -> None:
    objective = Objective(nn.Linear(2, 3), lambda m, b: m(b).mean(), [torch.randn(6, 2)])
    assert gauss_newton_diagonal(objective).tolist() == [0.0] * 9


@pytest.mark.parametrize("words", [{"draws": 0}, {"likelihood": "categoric"}])
def test_impossible_diagonals_are_refused(words: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        gauss_newton_diagonal(make("conv"), **words)


def test_outputs_must_count_samples() -> None:
    objective = Objective(nn.Linear(2, 3), lambda m, b: m(b.mean(0)).sum(), [torch.randn(6, 2)])
    with pytest.raises(UsageError, match="first dimension"):
        gauss_newton_diagonal(objective)


def test_the_model_stays_as_it_was() -> None:
    objective = make("conv")
    model = objective.module.train()
    model.get_parameter("0.weight").requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    assert len(gauss_newton_diagonal(objective, draws=2)) == len(
        empirical_fisher_diagonal(objective)
    )
    assert all(torch.equal(before[name], x) for name, x in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert all(p.grad is None for p in model.parameters())
    assert [p.requires_grad for p in model.parameters()][:2] == [False, True]
    assert torch.equal(random, torch.get_rng_state())
