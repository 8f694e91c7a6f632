"""Rules that look at several points equal their papers' loops, and keep what papers promise."""

from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from finite_sums import CURVATURE, FiniteSum, Run, check_defaults, check_golden, quadratic
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from reference.gfm import gfm
from reference.loop import Arrays
from reference.smb import CLOSURE_GOLDEN as SMB_GOLDEN
from reference.smb import model_step, smb, smbi
from reference.xgrad import CLOSURE_GOLDEN as XGRAD_GOLDEN
from reference.xgrad import xgrad
from thalweg import optim
from thalweg.core.seeds import generator

START = np.array([1.0, -2.0, 0.5, 0.3])
PROBLEM = FiniteSum()


LOOPS = {"smb": smb, "smbi": smbi, "xgrad": xgrad, "gfm": gfm}


@pytest.mark.parametrize("rule", LOOPS)
def test_defaults_are_the_procedures(rule: str) -> None:
    check_defaults(rule, smb if rule == "smbi" else LOOPS[rule])


def _watched(closure: Callable[[], Tensor], run: Run, seen: list[np.ndarray]) -> Any:
    """Return a closure that notes where it is evaluated."""

    def evaluate() -> Tensor:
        seen.append(run.point)
        return closure()

    return evaluate


# SMB and SMBi


@pytest.mark.parametrize("golden", SMB_GOLDEN, ids=str)
def test_smb_golden_numbers(golden: Any) -> None:
    check_golden(golden)


SMB_RUNS = [
    {"lr": 4.0},
    {"lr": 4.0, "eta": 0.6, "c": 0.3},
    {"lr": 3.0, "c": 0.9, "weight_decay": 0.2},
    {"lr": 4.0, "autoschedule": True, "n_batches_per_epoch": 4, "gamma": 0.3, "beta": 0.8},
    {"lr": 4.0, "autoschedule": True, "n_batches_per_epoch": 4, "gamma": 0.55, "beta": 0.8},
    {"lr": 0.5, "autoschedule": True, "n_batches_per_epoch": 3, "beta": 0.5, "lr_max": 1.2},
    {"lr": 0.5, "autoschedule": True, "n_batches_per_epoch": 2, "beta": 0.5, "lr_max": 1.0},
]


def _split(x: np.ndarray) -> Arrays:
    return [x[:-1], x[-1]]


@pytest.mark.parametrize("rule", ["smb", "smbi"])
@pytest.mark.parametrize("hyper", SMB_RUNS, ids=[f"smb-{i}" for i in range(len(SMB_RUNS))])
def test_smb_equals_its_procedure(rule: str, hyper: dict[str, Any]) -> None:
    drawn = PROBLEM.batches(4)
    own = dict(hyper)
    decay = own.pop("weight_decay", 0.0)

    def loss(t: int, x: Arrays) -> float:
        whole = np.append(*x)
        return PROBLEM.loss(drawn(t), whole) + decay / 2 * float(whole @ whole)

    def gradient(t: int, x: Arrays) -> Arrays:
        whole = np.append(*x)
        return _split(PROBLEM.gradient(drawn(t), whole) + decay * whole)

    run = Run.on(rule, PROBLEM, START, **hyper)
    procedure = LOOPS[rule](_split(START), loss, gradient, **own)
    by_model = 0
    for t, expected in enumerate(islice(procedure, 24), start=1):
        found = run.step(PROBLEM.closure(drawn(t), run.params))
        np.testing.assert_allclose(found, np.append(*expected), rtol=0, atol=1e-10)
        by_model += run.group["model_steps"]
    assert by_model > 0 or hyper["lr"] < 1


def test_smb_counts_its_steps() -> None:
    run = Run("smb", [1.0, -2.0, 0.5], lr=0.5)
    for t in range(1, 4):
        run.step(quadratic(CURVATURE, run.params[0]))
        assert run.optimizer.state[run.params[0]]["step"] == t
        assert run.group["epoch_steps"] == t


def test_smb_and_smbi_are_sgd_while_the_trial_steps_descend() -> None:
    for rule in ("smb", "smbi"):
        run, x = Run(rule, [1.0, -2.0, 0.5], lr=0.02), np.array([1.0, -2.0, 0.5])
        for _ in range(10):
            x = x - 0.02 * CURVATURE * x
            found = run.step(quadratic(CURVATURE, run.params[0]))
            np.testing.assert_allclose(found, x, rtol=1e-14)
        assert run.group["model_steps"] == 0


@pytest.mark.parametrize("rule", ["smb", "smbi"])
def test_smb_takes_every_group_s_own_rate(rule: str) -> None:
    rates, parts = [0.02, 0.6], [np.array([1.0, -2.0]), np.array([0.5, 3.0])]
    weights = [np.array([1.0, 4.0]), np.array([25.0, 2.0])]
    run = Run(rule, *parts)
    params = run.params
    groups = [
        {"params": [(str(i), p)], "lr": lr}
        for i, (p, lr) in enumerate(zip(params, rates, strict=True))
    ]
    run.optimizer = optim.create(rule, groups)
    pieces = [quadratic(w, p) for w, p in zip(weights, params, strict=True)]
    procedure = LOOPS[rule](
        parts,
        lambda t, x: sum(0.5 * np.sum(w * p * p) for w, p in zip(weights, x, strict=True)),
        lambda t, x: [w * p for w, p in zip(weights, x, strict=True)],
        lr=rates,
    )
    for expected in islice(procedure, 12):
        found = run.step(lambda: pieces[0]() + pieces[1]())
        np.testing.assert_allclose(found, np.concatenate(expected), rtol=0, atol=1e-12)
    assert run.group["model_steps"] > 0


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), lr=st.floats(0.05, 5.0), eta=st.floats(0.05, 0.99))
def test_smb_model_step_descends_and_is_bounded(seed: int, lr: float, eta: float) -> None:
    # The model's Hessian is positive definite: its step goes downhill, and no further than the
    # trial step.
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((4, 4))
    hessian = factor @ factor.T / 4 + 0.01 * np.eye(4)
    x = rng.standard_normal(4)
    g = hessian @ x
    p = nn.Parameter(torch.tensor(x))
    matrix = torch.tensor(hessian)
    optimizer: Any = optim.create("smb", [p], lr=lr, eta=eta, c=0.0)
    optimizer.step(lambda: 0.5 * p @ matrix @ p)
    s = p.detach().numpy() - x
    assert s @ g < 0
    if optimizer.param_groups[0]["model_steps"]:
        assert np.linalg.norm(s) <= lr * np.linalg.norm(g) * (1 + 1e-9)
        expected = model_step(-lr * g, g, -lr * hessian @ g, g, eta)
        np.testing.assert_allclose(s, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("rule", ["smb", "smbi"])
def test_smb_evaluates_no_more_than_it_needs(rule: str) -> None:
    for lr, expected in ((0.02, [2, 2]), (0.5, [3, 3] if rule == "smb" else [2, 2])):
        run = Run(rule, [1.0, -2.0, 0.5], lr=lr)
        counts = []
        for _ in range(2):
            seen: list[np.ndarray] = []
            run.step(_watched(quadratic(CURVATURE, run.params[0]), run, seen))
            counts.append(len(seen))
        assert counts == expected


def test_smbi_stays_after_a_failure_and_builds_on_the_next_batch() -> None:
    run = Run("smbi", [1.0, -2.0, 0.5], lr=0.5)
    first, second = CURVATURE, np.array([2.0, 3.0, 20.0])
    x = run.point
    np.testing.assert_array_equal(run.step(quadratic(first, run.params[0])), x)
    np.testing.assert_allclose(run.state("previous_gradient"), first * x)
    assert run.group["failed"] == 1
    assert type(run.group["failed"]) is int
    after = run.step(quadratic(second, run.params[0]))
    g = second * x
    expected = x + model_step(-0.5 * g, g, -0.5 * second * g, first * x, 0.99)
    np.testing.assert_allclose(after, expected, rtol=1e-12)
    assert run.group["failed"] == 0
    assert run.group["model_steps"] == 1


@pytest.mark.parametrize("rule", ["smb", "smbi"])
def test_smb_rests_where_the_gradient_vanishes(rule: str) -> None:
    # Of two tensors, one at its own minimum; the other's trial steps fail.
    run = Run(rule, [0.0, 0.0], [0.5], lr=0.5)
    p, q = run.params
    for _ in range(4):
        run.step(
            lambda: p.square().sum() + 25 * q.square().sum() + (p.sum() * q.square().sum()) * 0
        )
    np.testing.assert_array_equal(run.point[:2], [0.0, 0.0])
    assert 0 < abs(run.point[2]) < 0.5


@pytest.mark.parametrize(("slope", "evaluations"), [(0.9e-8, 2), (1e-8, 4), (1.1e-8, 4), (1e-5, 4)])
@pytest.mark.parametrize("rule", ["smb", "smbi"])
def test_smb_follows_next_to_nothing_without_a_look(
    rule: str, slope: float, evaluations: int
) -> None:
    run, calls = Run(rule, [1.0], lr=1.0), []
    for _ in range(2):
        run.step(lambda: calls.append(1) or run.params[0].sum() * slope)
    assert len(calls) == evaluations
    assert run.group["model_steps"] == 0


def test_smb_takes_a_trial_step_that_descends_just_enough() -> None:
    run = Run("smb", [1.0], lr=2.0, c=0.0)
    np.testing.assert_array_equal(run.step(quadratic(1.0, run.params[0])), [-1.0])
    assert run.group["model_steps"] == 0


@pytest.mark.parametrize(
    ("rule", "by_model", "rate"),
    [("smb", 50, 0.04), ("smb", 55, 0.01), ("smbi", 25, 0.04), ("smbi", 27, 0.01)],
)
@pytest.mark.parametrize("autoschedule", [True, False])
def test_smb_changes_its_rate_by_the_share_of_model_steps(
    rule: str, by_model: int, rate: float, autoschedule: bool
) -> None:
    hyper: dict[str, Any] = {"lr": 0.02, "beta": 0.5, "gamma": 0.5, "n_batches_per_epoch": 100}
    run = Run(rule, [1.0], autoschedule=autoschedule, **hyper)
    run.group.update(epoch_steps=99, model_steps=by_model)
    run.step(quadratic(1.0, run.params[0]))
    assert run.group["lr"] == (rate if autoschedule else 0.02)
    assert run.group["epoch_steps"] == (0 if autoschedule else 100)


def _smb(p: Tensor, loss: Callable[[Tensor], Tensor], lr: float) -> tuple[Tensor, int]:
    """Return where one step of SMB leads, and how many steps were by the model."""
    x = nn.Parameter(p.clone())
    optimizer = optim.create("smb", [x], lr=lr)
    optimizer.step(lambda: loss(x))
    return x.detach(), optimizer.param_groups[0]["model_steps"]


def _bfloat16() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    one, two = (torch.randn(1000, generator=random).bfloat16() for _ in range(2))
    return one, two


def test_smb_tries_in_single_precision() -> None:
    p, q = _bfloat16()
    found, by_model = _smb(p, lambda x: (x - q).square().sum(), lr=0.1)
    expected = (p.float() - 0.1 * (2 * (p - q)).float()).bfloat16()
    assert (found != expected).sum() <= 2
    assert by_model == 0
    # A square beyond the largest number of float16.
    zero = torch.zeros(1, dtype=torch.float16)
    found, by_model = _smb(zero, lambda x: 300 * x.sum(), lr=0.01)
    assert found.item() == -3.0
    assert by_model == 0


def test_smb_builds_its_model_in_single_precision_and_adds_up_in_double() -> None:
    p, q = _bfloat16()
    found, by_model = _smb(p, lambda x: (x - q).square().sum(), lr=3.0)
    g = (2 * (p - q)).float()
    there = (2 * ((p.float() - 3.0 * g).bfloat16() - q)).float()
    s, g, y = (x.double().numpy() for x in (-3.0 * g, g, there - g))
    expected = p.double() + torch.tensor(model_step(s, g, y, g, 0.99))
    assert (found != expected.bfloat16()).sum() <= 2
    assert by_model == 1
    # A sum of squares beyond the largest number of float32, of ten times -1e19.
    found, by_model = _smb(torch.ones(10), lambda x: 5e17 * x.square().sum(), lr=1e-17)
    s, g, y = (np.full(10, x) for x in (-10.0, 1e18, -1e19))
    np.testing.assert_allclose(found.numpy(), 1 + model_step(s, g, y, g, 0.99), rtol=1e-5)
    assert by_model == 1


@pytest.mark.parametrize("rule", ["smb", "smbi"])
def test_smb_lets_nan_through(rule: str) -> None:
    run = Run(rule, [1.0, 2.0], [3.0], lr=0.1)
    p, q = run.params
    for _ in range(2):
        run.step(lambda: p.square().sum() * float("nan") + q.square().sum())
    assert np.isnan(run.point).any()
    # The loss alone is NaN at the trial point.
    run = Run(rule, [1.0], lr=0.1)
    closure, values = quadratic(1.0, run.params[0]), iter([0.0, float("nan"), 0.0, 0.0, 0.0, 0.0])
    run.step(lambda: closure() + next(values))
    assert run.group["model_steps" if rule == "smb" else "failed"] == 1


# XGrad


@pytest.mark.parametrize("golden", XGRAD_GOLDEN, ids=str)
def test_xgrad_golden_numbers(golden: Any) -> None:
    check_golden(golden)


XGRAD_RUNS = [
    {"lr": 0.1},
    {"lr": 0.1, "base": "adam"},
    {"lr": 0.1, "base": "sgd"},
    {"lr": 0.1, "betas": (0.7, 0.9), "eps": 0.1, "s": 2.0, "weight_decay": 0.3},
    {"lr": 0.1, "base": "adam", "betas": (0.8, 0.95), "weight_decay": 0.3},
    {"lr": 0.2, "base": "sgd", "momentum": 0.7, "s": 0.5, "weight_decay": 0.2},
]


@pytest.mark.parametrize("hyper", XGRAD_RUNS, ids=[f"xgrad-{i}" for i in range(len(XGRAD_RUNS))])
@pytest.mark.parametrize("execution", ["loop", "foreach", "compiled"])
def test_xgrad_equals_its_procedure_and_looks_ahead(execution: str, hyper: dict[str, Any]) -> None:
    drawn = PROBLEM.batches(4)
    run = Run.on("xgrad", PROBLEM, START, execution=execution, **hyper)
    procedure = xgrad(START, lambda t, x: PROBLEM.gradient(drawn(t), x), **hyper)
    for t, (expected, ahead) in enumerate(islice(procedure, 20), start=1):
        seen: list[np.ndarray] = []
        found = run.step(_watched(PROBLEM.closure(drawn(t), run.params), run, seen))
        np.testing.assert_allclose(seen, [ahead], rtol=0, atol=1e-11)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("base", ["sgd", "adam", "adamw"])
def test_xgrad_without_prediction_is_its_base(base: str) -> None:
    hyper = {"lr": 0.1, "weight_decay": 0.2} | ({"momentum": 0.8} if base == "sgd" else {})
    own = Run.on("xgrad", PROBLEM, START, s=0.0, base=base, **hyper)
    other = Run(base, START[:-1], START[-1], **hyper)
    drawn = PROBLEM.batches(3)
    for t in range(1, 12):
        other.optimizer.zero_grad()
        PROBLEM.closure(drawn(t), other.params)().backward()
        expected = other.step()
        found = own.step(PROBLEM.closure(drawn(t), own.params))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("base", ["sgd", "adam", "adamw"])
def test_xgrad_without_prediction_is_its_base_in_torch_at_defaults(base: str) -> None:
    torch_class = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    own = Run.on("xgrad", PROBLEM, START, s=0.0, base=base, lr=1e-3)
    p, q = nn.Parameter(torch.tensor(START[:-1])), nn.Parameter(torch.tensor(START[-1]))
    hyper: dict[str, Any] = {"lr": 1e-3} | ({"momentum": 0.9} if base == "sgd" else {})
    other = torch_class[base]([p, q], **hyper)
    for _ in range(30):
        other.zero_grad()
        PROBLEM.closure(PROBLEM.everything, [p, q])().backward()
        other.step()
        found = own.step(PROBLEM.closure(PROBLEM.everything, own.params))
        expected = np.append(p.detach().numpy(), q.detach().numpy())
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


def test_xgrad_takes_each_group_s_weight_decay_from_its_base() -> None:
    def decays(**hyper: Any) -> list[float]:
        groups = [{"params": [nn.Parameter(torch.zeros(1))]} for _ in range(4)]
        groups[1] |= {"base": "sgd"}
        groups[2] |= {"base": "adam", "weight_decay": 0.3}
        groups[3] |= {"base": "adamw", "weight_decay": 0.0}
        optimizer = optim.XGrad(groups, **hyper)
        return [group["weight_decay"] for group in optimizer.param_groups]

    assert decays() == [0.01, 0.0, 0.3, 0.0]
    assert decays(base="adam") == [0.0, 0.0, 0.3, 0.0]
    assert decays(weight_decay=0.2) == [0.2, 0.2, 0.3, 0.0]


def test_xgrad_over_momentum_with_s_the_momentum_is_nesterov() -> None:
    own = Run.on("xgrad", PROBLEM, START, base="sgd", lr=0.2, momentum=0.8, s=0.8, weight_decay=0.0)
    p = nn.Parameter(torch.tensor(START[:-1]))
    q = nn.Parameter(torch.tensor(START[-1]))
    nesterov = torch.optim.SGD([p, q], lr=0.2, momentum=0.8, nesterov=True)
    whole = PROBLEM.everything
    for _ in range(12):
        seen: list[np.ndarray] = []
        own.step(_watched(PROBLEM.closure(whole, own.params), own, seen))
        at = np.append(p.detach().numpy(), q.detach().numpy())
        np.testing.assert_allclose(seen, [at], rtol=0, atol=1e-12)
        nesterov.zero_grad()
        PROBLEM.closure(whole, [p, q])().backward()
        nesterov.step()


def test_xgrad_predicts_for_tensors_that_have_a_direction_alone() -> None:
    run = Run("xgrad", [1.0], [2.0], lr=0.1, base="sgd", weight_decay=0.0)
    p, q = run.params
    run.step(lambda: p.sum())
    seen: list[np.ndarray] = []
    run.step(_watched(lambda: p.sum() + q.sum(), run, seen))
    np.testing.assert_allclose(seen, [[0.8, 2.0]], rtol=1e-12)
    q.requires_grad_(False)
    run.step(_watched(lambda: p.sum(), run, seen))
    np.testing.assert_allclose(seen[1][1], 1.9, rtol=1e-12)


# GFM and GFM+

GFM_RUNS = [
    {"lr": 0.05, "delta": 0.1},
    {"lr": 0.05, "delta": 0.2, "directions": 3, "seed": 5, "weight_decay": 0.3},
    {"lr": 0.02, "delta": 0.1, "plus": True},
    {
        "lr": 0.05,
        "delta": 0.1,
        "directions": 2,
        "plus": True,
        "seed": 2,
        "first_directions": 5,
        "inner_steps": 3,
        "weight_decay": 0.3,
    },
]


def _direction(seed: int, t: int, i: int) -> np.ndarray:
    parts = []
    for name, shape in (("tensor_0", (3,)), ("tensor_1", ())):
        random = generator(seed, "direction", t, i, 0, name)
        drawn = torch.randn(shape, generator=random, dtype=torch.float64)
        parts.append(drawn.numpy().ravel())
    u = np.concatenate(parts)
    return u / np.linalg.norm(u)


@pytest.mark.parametrize("hyper", GFM_RUNS, ids=[f"gfm-{i}" for i in range(len(GFM_RUNS))])
def test_gfm_equals_its_procedure(hyper: dict[str, Any]) -> None:
    drawn, own = PROBLEM.batches(4), dict(hyper)
    decay, seed = own.pop("weight_decay", 0.0), own.pop("seed", 0)
    procedure = gfm(
        START,
        lambda t, x: PROBLEM.loss(drawn(t + 1), x) + decay / 2 * float(x @ x),
        lambda t, i: _direction(seed, t, i),
        **own,
    )
    run = Run.on("gfm", PROBLEM, START, **hyper)
    for t, expected in enumerate(islice(procedure, 14), start=1):
        found = run.step(PROBLEM.closure(drawn(t), run.params))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10, err_msg=f"step {t}")


def test_gfm_estimates_a_linear_loss_without_bias() -> None:
    slope = np.array([1.0, -2.0, 0.5, 0.0])
    run = Run("gfm", np.zeros(4), lr=1.0, delta=0.5, directions=3000)
    p = run.params[0]
    found = run.step(lambda: (torch.tensor(slope) * p).sum())
    np.testing.assert_allclose(found, -slope, atol=0.15)


def test_gfm_plus_finds_the_kinks() -> None:
    run = Run(
        "gfm",
        np.zeros(5),
        lr=0.01,
        delta=0.05,
        plus=True,
        inner_steps=5,
        first_directions=40,
        directions=2,
    )
    p = run.params[0]
    for _ in range(160):
        run.step(lambda: (p - 1).abs().sum())
    np.testing.assert_allclose(run.point, 1.0, atol=0.02)


INPUTS = torch.linspace(-2, 2, 16, dtype=torch.float64)


def _net_loss(p: Tensor) -> Tensor:
    """Return how far a ReLU network of two hidden units, its weights in one, is from |x|."""
    hidden = torch.relu(INPUTS[:, None] * p[:2] + p[2:4])
    return (hidden @ p[4:6] + p[6] - INPUTS.abs()).abs().mean()


def _goldstein(x: np.ndarray, radius: float) -> float:
    """Return about the smallest norm in the hull of gradients within the radius."""
    rng = np.random.default_rng(0)
    gradients = []
    for _ in range(300):
        u = rng.standard_normal(x.size)
        u *= radius * rng.random() ** (1 / x.size) / np.linalg.norm(u)
        p = torch.tensor(x + u, requires_grad=True)
        gradients.append(torch.autograd.grad(_net_loss(p), p)[0].numpy())
    found = np.mean(gradients, axis=0)
    for _ in range(300):  # Frank-Wolfe
        away = found - gradients[int(np.argmin(gradients @ found))]
        share = (away @ found) / max(away @ away, 1e-30)
        found = found - min(max(share, 0.0), 1.0) * away
    return float(np.linalg.norm(found))


@pytest.mark.parametrize("plus", [False, True])
def test_gfm_reaches_goldstein_stationarity_on_a_relu_net_without_gradients(plus: bool) -> None:
    start, calls, steps = np.random.default_rng(2).standard_normal(7), [], 400
    run = Run("gfm", start, delta=0.02, plus=plus)

    def blind() -> Tensor:
        calls.append(1)
        return _net_loss(run.params[0].detach())  # no graph: nothing to differentiate

    for t in range(steps):
        run.group["lr"] = 0.02 * (1 - t / steps)
        run.step(blind)
    assert len(calls) == (40 * 20 + 360 * 4 if plus else 400 * 2)
    assert _goldstein(start, 0.1) > 0.5
    assert _goldstein(run.point, 0.1) < 0.03
    assert _net_loss(torch.tensor(run.point)) < 0.3 * _net_loss(torch.tensor(start))


def test_gfm_keeps_a_nan_loss() -> None:
    run = Run("gfm", [1.0, 2.0])
    run.step(lambda: run.params[0].sum() * float("nan"))
    assert np.isnan(run.point).all()


def test_gfm_plus_state_has_no_graph() -> None:
    p = nn.Parameter(torch.ones(2))
    state = optim.GFM.rule.from_hyper({"plus": True}).init(p)
    assert set(state) == {"estimate", "previous"}
    assert not any(x.requires_grad for x in state.values())
    assert optim.GFM.looks_aside


def test_gfm_plus_carries_its_estimate_on_when_a_tensor_joins() -> None:
    run, calls = Run("gfm", [1.0, -2.0], plus=True), []
    q = nn.Parameter(torch.ones(2, dtype=torch.float64))

    def closure() -> Tensor:
        calls.append(1)
        return sum(p.square().sum() for p in (*run.params, q))

    run.step(closure)
    assert len(calls) == 2 * 10
    run.optimizer.add_param_group({"params": [("joining", q)]})
    run.step(closure)
    assert len(calls) == 2 * 10 + 4


def test_gfm_draws_by_name_and_by_place() -> None:
    def closure(params: list[Tensor]) -> Callable[[], Tensor]:
        return lambda: sum(p.square().sum() for p in params)

    p, q = (nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2))
    optimizer: Any = optim.create("gfm", [p, q], lr=0.1)
    optimizer.step(closure([p, q]))
    assert not torch.equal(p, q)
    q.requires_grad_(False)
    before = q.detach().clone()
    optimizer.step(closure([p, q]))
    assert torch.equal(q, before)
