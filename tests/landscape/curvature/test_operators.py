"""Products with curvature matrices against dense ones by other means."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from thalweg.core.errors import UsageError
from thalweg.landscape import Objective
from thalweg.landscape.curvature import (
    EmpiricalFisher,
    Fisher,
    GaussNewton,
    Hessian,
    gradient_statistics,
    sample_gradients,
)

torch.manual_seed(0)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True, dropout=0.1)
        self.norm = nn.LayerNorm(4)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        x = self.norm(x + self.attend(x, x, x, need_weights=False)[0])
        return (x @ self.embed.weight.mT).mean(1)  # tied to the embedding


def dense_net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 3))


def conv_net() -> nn.Module:
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.SiLU(), nn.Flatten(), nn.Linear(8, 3)
    )
    net[1].running_var.fill_(0.7)
    return net


def recurrent_net() -> nn.Module:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.head = nn.GRU(2, 3, batch_first=True), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.gru(x)[0][:, -1])

    return Last()


NETS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    "dense": (dense_net, lambda n: torch.randn(n, 3)),
    "conv": (conv_net, lambda n: torch.randn(n, 1, 4, 4)),
    "attention": (Attention, lambda n: torch.randint(5, (n, 3))),
    "recurrent": (recurrent_net, lambda n: torch.randn(n, 4, 2)),
}


def cross_entropy(model: Any, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def make(name: str) -> Objective:
    torch.manual_seed(3)
    build, inputs = NETS[name]
    model = build().double()
    batches = []
    for n in (5, 2):
        x = inputs(n)
        batches.append((x.double() if x.is_floating_point() else x, torch.randint(3, (n,))))
    return Objective(model, cross_entropy, batches)


def loss_of_vector(objective: Objective) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Return the mean loss over all samples as a function of one vector, and the vector."""
    model = copy.deepcopy(objective.module).eval()
    params = dict(model.named_parameters())
    names, shapes = list(params), [p.shape for p in params.values()]

    def at(x: Tensor) -> dict[str, Tensor]:
        parts = x.split([s.numel() for s in shapes])
        return {n: p.reshape(s) for n, p, s in zip(names, parts, shapes, strict=True)}

    inputs = torch.cat([x for x, _ in objective.batches])
    labels = torch.cat([y for _, y in objective.batches])

    def outputs(x: Tensor) -> Tensor:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return functional_call(model, at(x), (inputs,))

    def loss(x: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs(x), labels)

    loss.outputs = outputs  # type: ignore[attr-defined]
    return loss, torch.cat([p.detach().reshape(-1) for p in params.values()])


@pytest.mark.parametrize("name", list(NETS))
def test_hessian(name: str) -> None:
    objective = make(name)
    loss, x = loss_of_vector(objective)
    rows = [torch.autograd.functional.hessian(loss, x)]
    torch.testing.assert_close(Hessian(objective).dense(), rows[0])


@pytest.mark.parametrize("name", ["dense", "conv", "attention"])
def test_gauss_newton_and_fisher(name: str) -> None:
    objective = make(name)
    loss, x = loss_of_vector(objective)
    outputs = loss.outputs  # type: ignore[attr-defined]
    j = torch.autograd.functional.jacobian(outputs, x)  # samples, classes, n
    p = outputs(x).softmax(-1)
    q = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    expected = torch.einsum("sci,scd,sdj->ij", j, q, j) / len(p)
    torch.testing.assert_close(GaussNewton(objective).dense(), expected)
    torch.testing.assert_close(Fisher(objective).dense(), expected)
    gaussian = torch.einsum("sci,scj->ij", j, j) / len(p)
    torch.testing.assert_close(Fisher(objective, "gaussian").dense(), gaussian)


@pytest.mark.parametrize("name", list(NETS))
def test_gradients_of_samples(name: str) -> None:
    objective = make(name)
    _, x = loss_of_vector(objective)
    rows = []
    for inputs, labels in objective.batches:
        for i in range(len(labels)):
            one = Objective(
                objective.model, cross_entropy, [(inputs[i : i + 1], labels[i : i + 1])]
            )
            rows.append(torch.autograd.functional.jacobian(loss_of_vector(one)[0], x))
    g = torch.stack(rows)
    found = torch.cat([sample_gradients(objective, i) for i in range(2)])
    torch.testing.assert_close(found, g)
    torch.testing.assert_close(EmpiricalFisher(objective).dense(), g.mT @ g / len(g))
    statistics = gradient_statistics(objective)
    torch.testing.assert_close(statistics.mean, g.mean(0))
    torch.testing.assert_close(statistics.variance, g.var(0))
    noise = float(g.var(0).sum())
    signal = float(g.mean(0).square().sum()) - noise / 7
    assert statistics.samples == 7
    expected = noise / signal if signal > 0 else float("inf")
    assert statistics.noise_scale == pytest.approx(expected)


def test_graphs_are_kept_within_the_memory_allowed() -> None:
    objective = make("dense")
    calls = []
    objective.module.register_forward_hook(lambda *_: calls.append(1))
    v = torch.randn(Hessian(objective).shape[0], dtype=torch.float64)
    kept, anew = Hessian(objective), Hessian(objective, memory=0)
    found = [(kept @ v, len(calls)), (kept @ v, len(calls))]
    assert [n for _, n in found] == [2, 2]
    other = [anew @ v, anew @ v]
    assert len(calls) == 6
    for x in (found[1][0], *other):
        torch.testing.assert_close(x, found[0][0], rtol=0, atol=0)
    assert kept.products == anew.products == 2


@pytest.mark.parametrize("make_operator", [Hessian, GaussNewton, Fisher, EmpiricalFisher])
def test_the_model_stays_as_it_was(make_operator: Callable[[Objective], Any]) -> None:
    objective = make("conv")
    model = objective.module.train()
    model.get_parameter("0.weight").requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    operator = make_operator(objective)
    operator @ torch.ones(operator.shape[0])
    assert operator.shape[0] == sum(p.numel() for p in model.parameters()) - 18
    assert all(torch.equal(before[name], x) for name, x in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert [p.requires_grad for p in model.parameters()][:2] == [False, True]
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(random, torch.get_rng_state())


def test_other_batches_change_nothing() -> None:
    objective = make("dense")
    whole = tuple(torch.cat(parts) for parts in zip(*objective.batches, strict=True))
    joined = Objective(objective.model, cross_entropy, [whole])
    torch.testing.assert_close(Hessian(joined).dense(), Hessian(objective).dense())


def test_a_matrix_is_multiplied_by_columns() -> None:
    h = Hessian(make("dense"))
    torch.testing.assert_close(h @ torch.eye(h.shape[0]), h.dense())


def test_what_has_no_curvature_is_refused() -> None:
    objective = make("dense")
    h = Hessian(objective)
    with pytest.raises(UsageError, match="a vector of 31 entries"):
        h @ torch.ones(30)
    with torch.no_grad():
        next(objective.module.parameters()).add_(1)
    with pytest.raises(UsageError, match="weights were changed"):
        h @ torch.ones(31)
    objective.module.requires_grad_(False)
    with pytest.raises(UsageError, match="no parameter of the model"):
        Hessian(objective)
    with pytest.raises(UsageError, match="categorical"):
        Fisher(make("dense"), "categoric")  # type: ignore[arg-type]


def test_gradients_of_samples_need_samples() -> None:
    model = nn.Linear(2, 1)
    x, weights = torch.randn(3, 2), torch.ones(2)
    objective = Objective(model, lambda m, b: (m(b[0]) @ torch.ones(1)).mean(), [(x, weights)])
    with pytest.raises(UsageError, match="first dimension"):
        sample_gradients(objective)
    one = Objective(model, lambda m, b: m(b).mean(), [x[:1]])
    with pytest.raises(UsageError, match="two samples"):
        gradient_statistics(one)


def test_outputs_must_be_there() -> None:
    model = nn.Linear(2, 1)
    lonely = Objective(model, lambda m, b: m.weight.square().sum(), [torch.ones(3, 2)])
    with pytest.raises(UsageError, match="does not call the model"):
        GaussNewton(lonely) @ torch.ones(3)


def test_a_loss_may_leave_parameters_out() -> None:
    model = nn.ModuleList([nn.Linear(2, 1), nn.Linear(2, 1)]).double()
    objective = Objective(model, lambda m, b: m[0](b).square().mean(), [torch.ones(3, 2).double()])
    dense = Hessian(objective).dense()
    assert dense[:3, :3].abs().sum() > 0
    assert dense[3:].abs().sum() == 0


def test_gradients_of_samples_by_single_numbers() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(2.0))
            self.none = nn.Parameter(torch.empty(0, 2))
            self.shift = nn.Parameter(torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * x + self.shift

    objective = Objective(Scaled(), lambda m, b: m(b).mean(), [torch.arange(3.0)[:, None]])
    assert sample_gradients(objective).tolist() == [[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]]
