"""Every second-order rule equals its procedure in numpy, and the authors' golden numbers."""

from typing import Any

import numpy as np
import pytest
import torch
from curved_runs import (
    ENTROPY,
    SQUARES,
    Descent,
    assert_close,
    batches,
    numbers_of,
    path_of,
    start,
)

from reference import PROCEDURES
from reference import grad_norm_smooth_newton as gns
from reference.adahessian import NUMBERS as ADAHESSIAN
from reference.curved import Array
from reference.oasis import NUMBERS as OASIS
from reference.oasis import SECOND_ETA
from thalweg.core.errors import UsageError
from thalweg.core.seeds import generator
from thalweg.engine.one_vector import vector
from thalweg.engine.second_order import Probes

W = start()
MIXED = batches([SQUARES[0], ENTROPY[0], SQUARES[1]])
CURVATURE = np.array([1.0, 4.0, 25.0])


def quadratic(w: torch.Tensor) -> torch.Tensor:
    """The vector problem of the golden numbers."""
    return 0.5 * (torch.tensor(CURVATURE).to(w) * w * w).sum()


def golden(slug: str, expected: dict[int, list[float]], **hyper: Any) -> Descent:
    run = Descent(slug, np.array([1.0, -2.0, 0.5]), ((3,),), **hyper)
    for t in range(1, max(expected) + 1):
        found = run.step(quadratic)
        if t in expected:
            np.testing.assert_allclose(found, expected[t], rtol=0, atol=1e-9, err_msg=f"step {t}")
    return run


def _probes(slug: str, seed: int, step: int) -> Probes:
    return Probes(Descent(slug, W).optimizer, seed, slug, step)


def _signs(slug: str, seed: int, step: int, samples: int) -> Array:
    probes = _probes(slug, seed, step)
    rows = [vector(probes.signs(sample)).numpy() for sample in range(samples)]
    return np.array(rows)


def _normals(slug: str, seed: int, step: int, *stream: int) -> Array:
    return vector(_probes(slug, seed, step).normals(*stream)).numpy()


# AdaHessian, OASIS, Sophia

ADAHESSIAN_SETTINGS = [
    {},
    {"lr": 0.3, "betas": (0.7, 0.9), "eps": 0.1, "weight_decay": 0.2, "seed": 3},
    {"n_samples": 3, "hessian_power": 0.7, "betas": (0.5, 0.8)},
    {"average_conv_kernel": False, "betas": (0.9, 0.9)},
]


@pytest.mark.parametrize("hyper", ADAHESSIAN_SETTINGS)
def test_adahessian_equals_its_procedure_given_the_probes(hyper: dict[str, Any]) -> None:
    own = {key: x for key, x in hyper.items() if not key.startswith(("n_s", "seed", "average"))}
    kernels = slice(0, 4 if hyper.get("average_conv_kernel", True) else 0)
    samples, seed = hyper.get("n_samples", 1), hyper.get("seed", 0)
    expected = PROCEDURES["adahessian"](
        W, MIXED, 8, lambda t: _signs("adahessian", seed, t - 1, samples), kernels, **own
    )
    assert_close(path_of("adahessian", MIXED, 8, W, **hyper), expected)


def test_adahessian_golden_numbers() -> None:
    golden("adahessian", ADAHESSIAN)


OASIS_SETTINGS = [
    {},
    {"lr": 0.02, "beta2": 0.6, "alpha": 0.4, "warm_start": 3, "weight_decay": 0.1, "seed": 5},
    {"lr": 0.01, "warm_start": 0, "beta2": 0.9, "alpha": 1e-5},
    {"lr": 0.05, "adaptive": False, "warm_start": 1, "weight_decay": 0.3},
    {"lr": 0.05, "adaptive": False, "momentum": 0.8, "weight_decay": 0.1},
    {"lr": 0.01, "momentum": 0.6, "beta2": 0.9},
]


@pytest.mark.parametrize("hyper", OASIS_SETTINGS)
def test_oasis_equals_its_procedure_given_the_probes(hyper: dict[str, Any]) -> None:
    own = {key: x for key, x in hyper.items() if key not in ("warm_start", "seed")}
    first, seed = hyper.get("warm_start", 10), hyper.get("seed", 0)
    expected, etas = PROCEDURES["oasis"](
        W, MIXED, 8, lambda t: _signs("oasis", seed, t - 1, first if t == 1 else 1), **own
    )
    found, own_etas = numbers_of("eta", "oasis", MIXED, 8, W, **hyper)
    assert_close(found, expected)
    assert_close(own_etas, etas)


@pytest.mark.parametrize("execution", ["loop", "foreach", "compiled"])
def test_oasis_with_a_unit_diagonal_and_momentum_descends_along_the_corrected_mean(
    execution: str,
) -> None:
    problem, w = MIXED(1), W.copy()
    # The Hessian's diagonal never leaves 1, where it starts.
    hyper = {"beta2": 1.0, "warm_start": 0, "adaptive": False}
    run = Descent("oasis", w, lr=0.05, momentum=0.9, execution=execution, **hyper)
    m = np.zeros_like(w)
    for t in range(1, 9):
        m = 0.9 * m + 0.1 * problem.gradient(w)
        w = w - 0.05 * m / (1 - 0.9**t)
        assert_close(run.step(problem), w)
    state = [set(run.optimizer.state[p]) for p in run.params]
    assert state == [{"step", "hessian", "previous", "exp_avg"}] * len(state)
    plain = Descent("oasis", W, lr=0.05, **hyper)
    plain.step(problem)
    assert "exp_avg" not in plain.optimizer.state[plain.params[0]]


def test_oasis_refuses_a_momentum_that_forgets_nothing() -> None:
    for momentum in (-0.1, 1.0):
        with pytest.raises(UsageError, match="momentum"):
            Descent("oasis", W, momentum=momentum)


def test_oasis_golden_numbers() -> None:
    hyper = {"lr": 0.01, "warm_start": 0, "alpha": 1e-5}
    golden("oasis", OASIS, **hyper)
    assert abs(golden("oasis", {2: OASIS[2]}, **hyper).number("eta") - SECOND_ETA) < 1e-9


SOPHIA_SETTINGS = [
    {},
    {"lr": 0.1, "betas": (0.6, 0.9), "gamma": 0.5, "weight_decay": 0.3, "update_period": 3},
    {"lr": 0.05, "gamma": 5.0, "eps": 0.3, "weight_decay": 0.0, "update_period": 1, "seed": 2},
]


def _settings(hyper: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: x for key, x in hyper.items() if key not in names}


@pytest.mark.parametrize("hyper", SOPHIA_SETTINGS)
def test_sophia_with_hutchinson_equals_its_procedure(hyper: dict[str, Any]) -> None:
    def estimate(t: int, w: Array) -> Array:
        z = _normals("sophia", hyper.get("seed", 0), t - 1)
        return z * (MIXED(t).hessian(w) @ z)

    expected = PROCEDURES["sophia"](W, MIXED, 12, estimate, **_settings(hyper, "seed"))
    assert_close(path_of("sophia", MIXED, 12, W, **hyper), expected)


@pytest.mark.parametrize("hyper", SOPHIA_SETTINGS[1:])
def test_sophia_with_drawn_labels_equals_its_procedure(hyper: dict[str, Any]) -> None:
    problems = batches(ENTROPY)

    def estimate(t: int, w: Array) -> Array:
        problem, shares = problems(t), problems(t).shares(w)
        random = generator(hyper.get("seed", 0), "sophia", t - 1)
        labels = torch.multinomial(torch.tensor(shares), 1, generator=random).numpy()[:, 0]
        residual = (shares - np.eye(3)[labels]).ravel() / len(shares)
        return len(shares) * (problem.jacobian(w).T @ residual) ** 2

    expected = PROCEDURES["sophia"](W, problems, 12, estimate, **_settings(hyper, "seed"))
    found = path_of("sophia", problems, 12, W, estimator="gauss-newton-bartlett", **hyper)
    assert_close(found, expected)


# Rules that factorise


@pytest.mark.parametrize(
    "hyper",
    [
        {},
        {"lr": 0.7, "damping": 0.3, "weight_decay": 0.2, "line_search": False},
        {"lr": 3.0, "damping": 0.05},
        {"lr": 1.0, "weight_decay": 0.4},
    ],
)
def test_newton_equals_its_procedure(hyper: dict[str, Any]) -> None:
    for seed in range(4):
        w = 2 * start(seed=seed)
        expected = PROCEDURES["newton"](w, MIXED, 5, **hyper)
        assert_close(path_of("newton", MIXED, 5, w, **hyper), expected, 1e-7)


GAUSS_NEWTON_SETTINGS = [
    {},
    {"lr": 0.4, "damping": 0.2, "weight_decay": 0.3},
    {"lr": 2.5, "damping": 0.02, "line_search": True, "weight_decay": 0.1},
    {"damping": 0.03, "adaptive_damping": True, "damping_factors": (3.0, 0.25)},
    {"lr": 1.9, "adaptive_damping": True, "weight_decay": 0.1, "line_search": True},
]


@pytest.mark.parametrize("solver", ["dense", "cg"])
@pytest.mark.parametrize("hyper", GAUSS_NEWTON_SETTINGS)
def test_gauss_newton_equals_its_procedure(hyper: dict[str, Any], solver: str) -> None:
    expected, dampings = PROCEDURES["gauss-newton"](W, MIXED, 8, **hyper)
    found, own = numbers_of(
        "present_damping", "gauss-newton", MIXED, 8, W, solver=solver, cg_tolerance=1e-13, **hyper
    )
    assert_close(found, expected, 1e-8 if solver == "cg" else 1e-10)
    assert_close(own, dampings)


@pytest.mark.parametrize(
    "hyper", [*GAUSS_NEWTON_SETTINGS, {"momentum": 0.8, "damping": 0.1, "weight_decay": 0.2}]
)
def test_egn_equals_the_dense_solve(hyper: dict[str, Any]) -> None:
    expected, dampings = PROCEDURES["egn"](W, MIXED, 8, **hyper)
    found, own = numbers_of("present_damping", "egn", MIXED, 8, W, **hyper)
    assert_close(found, expected)
    assert_close(own, dampings)


@pytest.mark.parametrize(
    "hyper",
    [
        {},
        {"lr": 0.5, "damping": 0.4, "time": 0.7, "weight_decay": 0.3, "seed": 1},
        {"time": 0.3, "delay": 0.4},
        {"time": 0.3, "delay": 0.4, "warm_start": False},
        {"time": float("inf"), "noise": 0.1},
        {"time": 0.2, "delay": 0.3, "noise": 0.02, "seed": 4},
        {"time": 0.5, "adam": True, "betas": (0.7, 0.8), "eps": 0.1},
        {"adam": True, "lr": 0.01},
    ],
)
def test_tngd_equals_its_procedure(hyper: dict[str, Any]) -> None:
    def normals(t: int) -> list[Array]:
        return [_normals("tngd", hyper.get("seed", 0), t - 1, i) for i in range(2)]

    expected = PROCEDURES["tngd"](W, MIXED, 8, normals, **_settings(hyper, "seed"))
    assert_close(path_of("tngd", MIXED, 8, W, **hyper), expected)


SADDLE_SETTINGS = [
    {},
    {"lr": 0.6, "damping": 0.3, "weight_decay": 0.2},
    {"krylov_dim": 3, "damping": 0.1},
    {"krylov_dim": 2, "lr": 0.5, "weight_decay": 0.3},
    {"rank": 3, "damping": 0.1},
    {
        "rank": 5,
        "damping": 0.3,
        "adaptive_damping": True,
        "lr": 1.2,
        "weight_decay": 0.1,
        "seed": 3,
    },
    {"adaptive_damping": True, "damping": 0.003},
    {"adaptive_damping": True, "lr": 1.7, "krylov_dim": 4, "damping": 3.0},
    {"adaptive_damping": True, "lr": 1.9, "damping": 1e-4},
]


@pytest.mark.parametrize("hyper", SADDLE_SETTINGS)
def test_saddle_free_newton_equals_its_procedure(hyper: dict[str, Any]) -> None:
    for seed in range(3):
        w = 2 * start(seed=seed)
        own = _settings(hyper, "seed")
        expected, dampings = PROCEDURES["saddle-free-newton"](w, MIXED, 7, **own)
        found, numbers = numbers_of("present_damping", "saddle-free-newton", MIXED, 7, w, **hyper)
        assert_close(found, expected, 1e-7)
        assert_close(numbers, dampings)


@pytest.mark.parametrize(
    "hyper",
    [
        {"max_iter": 4},
        {"max_iter": 1, "lr": 0.3, "history_size": 2, "weight_decay": 0.3},
        {"max_iter": 3, "lr": 2.0, "history_size": 3},
        {"max_iter": 2, "lr": 0.2, "line_search_fn": None},
        {"max_iter": 30, "tolerance_grad": 0.05},
        {"max_iter": 30, "tolerance_change": 0.01},
    ],
)
def test_lbfgs_equals_its_procedure(hyper: dict[str, Any]) -> None:
    for seed in range(3):
        w = 2 * start(seed=seed)
        expected = PROCEDURES["lbfgs"](w, MIXED, 6, **hyper)
        assert_close(path_of("lbfgs", MIXED, 6, w, **hyper), expected, 1e-8)


@pytest.mark.parametrize(
    "hyper",
    [
        {},
        {"alpha": 0.5, "beta": 2.0, "weight_decay": 0.3, "line_search": False},
        {"alpha": 0.95, "beta": 0.05, "decrease": 0.3, "lr": 1.5},
    ],
)
def test_filtered_newton_equals_its_procedure(hyper: dict[str, Any]) -> None:
    # Convex: only the linear part of the outputs.
    problems = [type(x)(0 * x.A, x.B, x.targets, x.kind) for x in (*SQUARES, *ENTROPY)]
    expected, _ = PROCEDURES["filtered-newton"](W, batches(problems), 8, **hyper)
    assert_close(path_of("filtered-newton", batches(problems), 8, W, **hyper), expected, 1e-8)


@pytest.mark.parametrize("approximation", ["hessian", "ggn", "fisher"])
@pytest.mark.parametrize(
    "hyper",
    [
        {},
        {"lr": 0.8, "gamma0": 5.0, "weight_decay": 0.2},
        {"gamma0": 1e-9, "gamma_min": 0.5},
        {"gamma0": 200.0},
    ],
)
def test_grad_norm_smooth_newton_equals_its_procedure(
    hyper: dict[str, Any], approximation: str
) -> None:
    slug, hyper = "grad-norm-smooth-newton", {**hyper, "approximation": approximation}
    for seed in range(2):
        w = 2 * start(seed=seed)
        expected, radii = PROCEDURES[slug](w, MIXED, 6, **hyper)
        found, own = numbers_of("gamma", slug, MIXED, 6, w, **hyper)
        assert_close(found, expected, 1e-9)
        assert_close(own, radii)


def test_grad_norm_smooth_newton_golden_numbers() -> None:
    run = golden("grad-norm-smooth-newton", gns.NUMBERS)
    assert run.number("gamma") == gns.RADIUS
    run = Descent("grad-norm-smooth-newton", np.array([1.0, -2.0, 0.5]), ((2,), (1,)), gamma0=64.0)
    for t in range(1, 6):
        found = run.step(lambda w: (torch.tensor(CURVATURE) * (torch.cosh(w) - 1)).sum())
        if t in gns.COSH:
            np.testing.assert_allclose(found, gns.COSH[t], rtol=0, atol=1e-9)
        assert run.number("gamma") == gns.COSH_RADII.get(t, run.number("gamma"))
