"""The golden numbers of the authors' programs, and what is asked of every rule."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from rule_runs import Run

from reference import GOLDEN, REFERENCES, Golden
from reference.golden import NEWTON_SCHULZ
from reference.problems import (
    PROBLEMS,
    VECTOR,
    counter_example,
    p3,
    p4,
    projected,
    second_counter_example,
)
from thalweg import optim
from thalweg.engine import newton_schulz
from thalweg.engine.rule import measures, measures_each

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])


@DTYPES
@pytest.mark.parametrize("golden", GOLDEN, ids=str)
def test_golden_numbers(golden: Golden, dtype: torch.dtype) -> None:
    start, gradient = PROBLEMS[golden.problem]
    own = Run(golden.rule, start, dtype=dtype, **golden.hyper)
    steps, tolerance = max(golden.points), golden.tolerance
    if dtype == torch.float32:
        # Prodigy's first moves of 1e-6 are lost in float32, and it grows what it has left.
        steps, tolerance = min(steps, 5), max(tolerance, 4e-6)
    for t in range(1, steps + 1):
        found = own.step(gradient)[0].ravel()
        if t in golden.points:
            np.testing.assert_allclose(
                found, golden.points[t], rtol=0, atol=tolerance, err_msg=f"step {t}"
            )
        if t in golden.extra.get("x", {}):
            np.testing.assert_allclose(
                own.evaluated[0], golden.extra["x"][t], rtol=0, atol=tolerance
            )
        if t in golden.extra.get("d", {}):
            d = own.optimizer.param_groups[0]["d"]
            assert abs(d - golden.extra["d"][t]) < tolerance


# Reddi et al.'s counter-examples, with projection onto [-1, 1]


def _projected_run(
    rule: str, example: tuple[Any, Any, dict[str, float]], steps: int
) -> list[float]:
    """Run the paper's form: the learning rate takes torch's bias corrections back."""
    gradient, lr, settings = example
    p = torch.nn.Parameter(torch.tensor(settings["start"], dtype=torch.float64))
    betas = beta1, beta2 = settings["beta1"], settings["beta2"]
    optimizer = optim.create(rule, [p], lr=1.0, betas=betas, eps=1e-30, execution="loop")
    p.grad = torch.zeros_like(p)
    path = []
    for t in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = lr(t) * (1 - beta1**t) / math.sqrt(1 - beta2**t)
        p.grad.fill_(gradient(t))
        optimizer.step()
        with torch.no_grad():
            path.append(float(p.clamp_(-1, 1)))
    return path


def test_adam_ends_at_the_worst_point_and_amsgrad_at_the_best() -> None:
    assert min(_projected_run("adam", counter_example(3.0), 3000)[-300:]) >= 0.990
    for c, first in ((3.0, 259), (10.0, 52)):
        path = _projected_run("amsgrad", counter_example(c), first)
        assert path[-1] <= -0.99
        assert min(path[:-1]) > -0.99


def test_second_counter_example() -> None:
    steps = 10**4
    example = second_counter_example()
    assert abs(_projected_run("amsgrad", example, steps)[-1] - -0.801) < 5.1e-4
    plain = projected(*example, amsgrad=False)
    expected = [next(plain) for _ in range(1000)]
    np.testing.assert_allclose(_projected_run("adam", example, 1000), expected, rtol=0, atol=1e-12)


# Newton-Schulz


def _on_singular_value(s: float) -> float:
    """Return what five steps make of s, in a matrix of norm 1 with one other singular value."""
    matrix = torch.diag(torch.tensor([s, math.sqrt(1 - s * s)], dtype=torch.float64))
    return float(newton_schulz(matrix, eps=0.0)[0, 0])


@pytest.mark.parametrize(("s", "expected"), NEWTON_SCHULZ.items())
def test_newton_schulz_on_singular_values(s: float, expected: float) -> None:
    assert abs(_on_singular_value(s) - expected) < 5.1e-7


def test_newton_schulz_ranges() -> None:
    middle = [_on_singular_value(s) for s in np.linspace(0.01, 1, 3000)]
    assert 0.6817 < min(middle) < 0.6820
    assert 1.1340 < max(middle) < 1.1345
    low = [_on_singular_value(s) for s in np.linspace(0.0025, 0.01, 1000)]
    assert 1.2020 < max(low) < 1.2025


def test_newton_schulz_of_one_number() -> None:
    x = torch.tensor([[-3.0]], dtype=torch.float64)
    assert abs(float(newton_schulz(x)) + 0.696436) < 1e-6
    assert float(newton_schulz(torch.zeros(1, 1))) == 0.0
    p = -3.0 / (3.0 + 0.5)
    for _ in range(2):
        p = 2.0 * p - 1.5 * p**3 + 0.5 * p**5
    own = float(newton_schulz(x, steps=2, coefficients=(2.0, -1.5, 0.5), eps=0.5))
    assert abs(own - p) < 1e-14


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_newton_schulz_keeps_singular_vectors(shape: tuple[int, int]) -> None:
    x = torch.tensor(np.random.default_rng(0).standard_normal(shape))
    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    s = s / torch.linalg.vector_norm(s)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    torch.testing.assert_close(newton_schulz(x, eps=0.0), u @ torch.diag(s) @ vt)


# Every rule


@pytest.mark.parametrize("rule", REFERENCES)
def test_state_lives_beside_its_parameter(rule: str) -> None:
    formula = type(Run(rule, [np.ones((3, 2))]).optimizer).rule()
    for shape in ((3, 2), (3,)):
        p = torch.nn.Parameter(torch.empty(shape, device="meta", dtype=torch.float64))
        for name, tensor in formula.init(p).items() if formula.takes(p) else ():
            if isinstance(tensor, float):
                continue
            assert tensor.device == p.device, name
            assert tensor.dtype == p.dtype, name
            assert not tensor.requires_grad, name


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3)])
@pytest.mark.parametrize("rule", REFERENCES)
def test_empty_tensors_are_no_trouble(rule: str, shape: tuple[int, ...]) -> None:
    own = Run(rule, [np.zeros(shape), VECTOR])
    for t in (1, 2, 3):
        own.step([np.zeros(shape), p3(t, [])[0]])
    assert np.isfinite(own.points[1]).all()
    assert (own.points[1] != VECTOR).any()


@pytest.mark.parametrize("rule", REFERENCES)
def test_nan_stays_nan(rule: str) -> None:
    formula = type(Run(rule, [VECTOR]).optimizer).rule
    element_wise = formula.reads == "element"
    start, good = ([VECTOR], p3) if element_wise else (PROBLEMS["P4"][0], p4)
    own = Run(rule, start)
    for t in (1, 2):
        own.step(good(t, start))
    for t in (3, 4):
        bad = good(t, start)
        bad[0][..., 0] = math.nan
        points = own.step(bad)[0]
    assert np.isnan(points[..., 0]).all()
    if element_wise and not measures(formula) and not measures_each(formula):
        assert np.isfinite(points[..., 1:]).all()
