"""Exponentiated gradient: signs, log-normal weights, first order."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_runs import Run

from thalweg import optim
from thalweg.core.errors import UsageError


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.floats(1e-3, 1.0))
def test_dale_exponentiated_gradient_never_flips_a_sign(seed: int, lr: float) -> None:
    rng = np.random.default_rng(seed)
    start = rng.standard_normal((3, 4))
    start[0, 0] = 0.0
    own = Run("dale-exponentiated-gradient", [start], lr=lr)
    for _ in range(10):
        points = own.step([rng.standard_normal((3, 4))])[0]
        assert (np.sign(points) == np.sign(start)).all()


def test_dale_exponentiated_gradient_is_preconditioned_descent_to_first_order() -> None:
    rng = np.random.default_rng(0)
    start, g = rng.standard_normal(50), rng.standard_normal(50)
    own = Run("dale-exponentiated-gradient", [start], lr=1e-5)
    moved = start - own.step([g])[0]
    np.testing.assert_allclose(moved, 1e-5 * np.abs(start) * g, rtol=1e-4)


def test_dale_exponentiated_gradient_makes_weights_log_normal() -> None:
    rng = np.random.default_rng(0)
    p = torch.nn.Parameter(torch.ones(20000, dtype=torch.float64))
    optimizer = optim.DaleExponentiatedGradient([p], lr=0.05)
    for _ in range(100):
        # Noise that is far from normal itself.
        p.grad = torch.tensor(rng.exponential(size=20000) - 1.0)
        optimizer.step()
    size = p.detach().log().numpy()
    standard = (size - size.mean()) / size.std()
    assert abs(size.mean()) < 0.02
    assert abs(size.std() - 0.5) < 0.01
    assert abs((standard**3).mean()) < 0.3
    assert abs((standard**4).mean() - 3) < 0.3


def test_dale_exponentiated_gradient_solves_a_sparse_positive_problem() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((60, 40))
    truth = np.zeros(40)
    truth[:3] = 1.0, 2.0, 0.5
    y = x @ truth
    own = Run("dale-exponentiated-gradient", [np.full(40, 0.1)], lr=0.5)
    for _ in range(3000):
        points = own.step([x.T @ (x @ own.points[0] - y) / 60])[0]
    np.testing.assert_allclose(points, truth, atol=2e-2)
    assert (points >= 0).all()


def test_eg_plus_minus_keeps_each_neuron_s_total() -> None:
    rng = np.random.default_rng(0)
    own = Run("eg-plus-minus", [rng.standard_normal((3, 4)), rng.standard_normal(5)], lr=0.01)
    for _ in range(20):
        own.step([rng.standard_normal((3, 4)), rng.standard_normal(5)])
    for index, rows in ((0, 3), (1, 1)):
        a, b = own.state(index)
        assert a.shape[0] == rows
        assert (a > 0).all()
        assert (b > 0).all()
        np.testing.assert_allclose((a + b).sum(1), 100.0, rtol=1e-6)


def test_eg_plus_minus_begins_where_the_weights_are() -> None:
    rng = np.random.default_rng(0)
    start = rng.standard_normal((3, 4))
    own = Run("eg-plus-minus", [start], u_scaling=40.0)
    np.testing.assert_allclose(own.step([rng.standard_normal((3, 4))])[0], start, rtol=1e-6)


@pytest.mark.parametrize("count_bias", [False, True])
def test_eg_plus_minus_rests_while_the_rate_is_zero(count_bias: bool) -> None:
    start = np.random.default_rng(0).standard_normal((3, 4))
    own = Run("eg-plus-minus", [start], lr=0.0, count_bias=count_bias)
    for _ in range(3):
        np.testing.assert_array_equal(own.step([np.ones((3, 4))])[0], start)


def test_eg_plus_minus_keeps_its_parts_in_float32_at_least() -> None:
    for dtype, kept in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        state = optim.EGPlusMinus.rule().init(torch.ones(3, 2, dtype=dtype))
        assert [x.dtype for x in state.values()] == [kept, kept]


def test_eg_plus_minus_forgets_irrelevant_inputs_sooner_than_gradient_descent() -> None:
    rng = np.random.default_rng(0)
    x = rng.choice([-1.0, 1.0], size=(300, 200))
    y = x[:, 0]

    def loss_after(rule: str, **hyper: float) -> float:
        own = Run(rule, [np.zeros(200)], **hyper)
        for t in range(60):
            i = t % 300
            points = own.step([(x[i] @ own.points[0] - y[i]) * x[i]])[0]
        return float(np.mean((x @ points - y) ** 2))

    best = min(loss_after("sgd", lr=2.0**-e) for e in range(5, 12))
    assert min(loss_after("eg-plus-minus", lr=2.0**-e, u_scaling=2.0) for e in range(8)) < best / 2


def test_eg_plus_minus_refuses_weights_that_do_not_fit() -> None:
    p = torch.nn.Parameter(torch.full((2, 10), 1.5))
    optimizer = optim.EGPlusMinus([p], u_scaling=10.0)
    p.grad = torch.ones_like(p)
    with pytest.raises(UsageError, match="larger u_scaling"):
        optimizer.step()
    assert torch.equal(p.detach(), torch.full((2, 10), 1.5))
    with pytest.raises(UsageError, match="positive"):
        optim.EGPlusMinus([p], u_scaling=0.0)
    with pytest.raises(UsageError, match="entropy"):
        optim.EGPlusMinus([p], entropy=-0.1)


@pytest.mark.parametrize("entropy", [0.0, 0.3])
def test_eg_plus_minus_step_minimises_what_it_says(entropy: float) -> None:
    # Of lr <g, a - b> + KL(x | x before) + entropy sum(x log x) over the parts x = (a, b) of one
    # neuron with a given sum, the slopes at the minimum are all the same.
    rng = np.random.default_rng(0)
    own = Run("eg-plus-minus", [rng.standard_normal((2, 4))], lr=0.2, u_scaling=30.0)
    for group in own.optimizer.param_groups:
        group["entropy"] = entropy
    own.step([rng.standard_normal((2, 4))])
    for _ in range(3):
        before, g = np.concatenate(own.state(), axis=1), rng.standard_normal((2, 4))
        own.step([g])
        after = np.concatenate(own.state(), axis=1)
        slope = 0.2 * np.concatenate([g, -g], axis=1)
        slope += np.log(after / before) + entropy * np.log(after)
        np.testing.assert_allclose(slope, slope[:, :1] * np.ones(8), rtol=0, atol=1e-12)
        np.testing.assert_allclose(after.sum(1), 30.0, rtol=1e-7)


def test_eg_plus_minus_draws_parts_together_by_their_entropy() -> None:
    rng = np.random.default_rng(0)
    own = Run("eg-plus-minus", [rng.standard_normal((3, 4))], u_scaling=40.0, entropy=0.25)
    own.step([np.zeros((3, 4))])
    a, b = own.state()
    for _ in range(6):
        own.step([np.zeros((3, 4))])
    later_a, later_b = own.state()
    np.testing.assert_allclose(np.log(later_a / later_b), np.log(a / b) / 1.25**6, rtol=1e-12)


def test_eg_plus_minus_leaves_biases_to_another_rule_by_a_group() -> None:
    layer = torch.nn.Linear(3, 2).double()
    biases = {"params": [layer.bias], "rule": "sgd", "lr": 0.1}
    optimizer = optim.EGPlusMinus([{"params": [layer.weight]}, biases], lr=0.01)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    for _ in range(2):
        layer.weight.grad, layer.bias.grad = torch.ones_like(weight), torch.ones_like(bias)
        optimizer.step()
    torch.testing.assert_close(layer.bias.detach(), bias - 0.2, rtol=0, atol=1e-15)
    a, b = (optimizer.state[layer.weight][name] for name in ("positive", "negative"))
    torch.testing.assert_close((a + b).sum(1), torch.full((2,), 100.0).double(), rtol=1e-7, atol=0)
    assert (layer.weight.detach() < weight).all()
