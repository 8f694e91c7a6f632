"""What no landscape can be drawn of: each is named, and the model stays as it was."""

import copy

import pytest
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel

from thalweg import landscape
from thalweg.core.errors import UsageError
from thalweg.landscape.curvature import GaussNewton, Hessian, trace

X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(12) % 3


def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def objective(*layers):
    torch.manual_seed(0)
    return landscape.Objective(nn.Sequential(*layers, nn.LazyLinear(3)), loss, [(X, Y)])


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return 2 * g


class Doubled(nn.Module):
    def forward(self, x):
        return Once.apply(x)


class Fast(nn.Module):
    """Attention that insists on a kernel without second derivatives."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(4, 12)

    def forward(self, x):
        q, k, v = self.map(x)[:, None, None].chunk(3, -1)
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return nn.functional.scaled_dot_product_attention(q, k, v).flatten(1)


def unchanged(model, before):
    after = model.state_dict()
    return all(torch.equal(after[n], x) or (x != x).any() for n, x in before.items())


WAYS = {
    "line": lambda o, p: landscape.lines(o, {"a": p[0], "b": p[1]}, steps=2),
    "plane": lambda o, p: landscape.plane(o, dict(zip("abc", p, strict=True)), size=2),
    "surface": lambda o, p: landscape.surface(o, steps=2),
    "slice": lambda o, p: landscape.slice_along(o, steps=2),
    "barriers": lambda o, p: landscape.layer_barriers(o, {"a": p[0], "b": p[1]}),
}


@pytest.mark.parametrize("way", WAYS)
def test_batch_norm_needs_a_policy_and_nothing_else_does(way):
    for layers in ([nn.Linear(4, 5), nn.BatchNorm1d(5)], [nn.Linear(4, 5)]):
        goal = objective(*layers)
        start = copy.deepcopy(goal.module.state_dict())
        points = [{n: x + k * (n.endswith("weight")) for n, x in start.items()} for k in range(2)]
        points.append({n: x * 2 if n.endswith("bias") else x for n, x in start.items()})
        if len(layers) == 1:
            WAYS[way](goal, points)
        else:
            with pytest.raises(UsageError, match=r'layer "1".*choose batch_norm'):
                WAYS[way](goal, points)
        assert unchanged(goal.module, start)


@pytest.mark.parametrize("matrix", [Hessian, GaussNewton])
@pytest.mark.parametrize(
    ("layer", "message"),
    [(Doubled(), "Once is once_differentiable"), (Fast(), "has no second derivative")],
)
def test_operations_without_a_second_derivative_are_named(matrix, layer, message):
    goal = objective(nn.Linear(4, 4), layer)
    before = copy.deepcopy(goal.module.state_dict())
    with pytest.raises(UsageError, match=message):
        trace(matrix(goal), 4)
    assert unchanged(goal.module, before)


def test_weight_norm_has_a_wrong_second_derivative():
    goal = objective(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))
    trace(GaussNewton(goal), 4)
    with pytest.raises(UsageError, match="weight norm has a wrong second derivative"):
        trace(Hessian(goal), 4)


def test_weights_that_are_not_finite_are_refused_by_name():
    goal = objective(nn.Linear(4, 5), nn.Tanh())
    with torch.no_grad():
        goal.module[0].weight[0, 0] = torch.nan
    before = copy.deepcopy(goal.module.state_dict())
    for measure in (
        lambda: Hessian(goal),
        lambda: landscape.surface(goal, steps=2),
        lambda: landscape.sharpness(goal, rho=0.1),
        lambda: landscape.local_entropy(goal, gamma=1.0),
    ):
        with pytest.raises(UsageError, match=r'not all finite \("0.weight" holds NaN'):
            measure()
    assert unchanged(goal.module, before)


def test_entries_that_lie_in_the_same_memory_are_refused():
    tied, other = nn.Linear(4, 4), nn.Linear(4, 4)
    other.weight.data = tied.weight.data
    with pytest.raises(UsageError, match=r'"0.weight" and "1.weight" are two .* same memory'):
        objective(tied, other)
    expanded = nn.BatchNorm1d(4)
    expanded.running_var = torch.ones(1).expand(4)
    model = nn.Sequential(nn.Linear(4, 4), expanded)
    with pytest.raises(UsageError, match=r'"1.running_var" lie in the same memory'):
        landscape.connect(model, None, ({}, {}), lambda step: None, steps=1)
    assert model.training


def test_a_loss_without_a_derivative_is_told():
    model = nn.Linear(4, 3)
    goal = landscape.Objective(model, lambda m, b: loss(m, b).detach(), [(X, Y)])
    assert goal.value() > 0
    for measure in (
        lambda: Hessian(goal).dense(),
        lambda: GaussNewton(goal).dense(),
        lambda: landscape.sharpness(goal, rho=0.1),
    ):
        with pytest.raises(UsageError, match="no derivative by the weights"):
            measure()


def test_complex_parameters_have_no_derivatives_here():
    model = nn.Linear(4, 3, dtype=torch.complex64)
    goal = landscape.Objective(model, lambda m, x: m(x + 0j).abs().mean(), [X])
    for measure in (
        lambda: Hessian(goal),
        lambda: landscape.surface(goal, steps=2),
        lambda: landscape.sharpness(goal, rho=0.1),
    ):
        with pytest.raises(UsageError, match='"weight" is complex'):
            measure()
