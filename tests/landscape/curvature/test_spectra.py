"""Eigenpairs, densities and traces of matrices that are known."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.core.seeds import generator
from thalweg.landscape import Objective
from thalweg.landscape.curvature import (
    Hessian,
    Lanczos,
    diagonal,
    eigenpairs,
    spectral_density,
    trace,
)

INF = math.inf


def matrix(values: list[float] | Tensor, seed: int = 0) -> Tensor:
    """Return a symmetric matrix with these eigenvalues."""
    values = torch.as_tensor(values, dtype=torch.float64)
    random = torch.Generator().manual_seed(seed)
    drawn = torch.randn(len(values), len(values), generator=random, dtype=torch.float64)
    q = torch.linalg.qr(drawn)[0]
    return q @ torch.diag(values) @ q.mT


SPECTRUM = torch.cat([torch.linspace(-1, 1, 60), torch.tensor([-8.0, 5.0, 7.0, 9.0, 12.0])])


@pytest.mark.parametrize(
    ("which", "expected"),
    [("top", [12, 9, 7]), ("bottom", [-8, -1, -1 + 2 / 59]), ("magnitude", [12, 9, -8])],
)
def test_eigenpairs(which: str, expected: list[float]) -> None:
    a = matrix(SPECTRUM)
    found = eigenpairs(a, 3, which, tolerance=1e-6)  # type: ignore[arg-type]
    assert found.converged
    assert found.values.tolist() == pytest.approx(expected, abs=1e-5)
    rest = torch.linalg.vector_norm(a @ found.vectors - found.vectors * found.values, dim=0)
    torch.testing.assert_close(rest, found.residuals, rtol=0, atol=1e-10)
    assert bool((rest <= 1e-6 * 12).all())
    torch.testing.assert_close(found.vectors.mT @ found.vectors, torch.eye(3).double())


def test_eigenpairs_say_when_they_gave_up() -> None:
    found = eigenpairs(matrix(SPECTRUM), 3, "bottom", tolerance=1e-9, max_products=8)
    assert not found.converged
    assert found.products == 8


def test_eigenvalues_of_higher_multiplicity() -> None:
    found = eigenpairs(matrix([3.0] * 4 + [1.0] * 4), 8)
    assert found.values.tolist() == pytest.approx([3.0] * 4 + [1.0] * 4)
    assert eigenpairs(torch.zeros(4, 4), 2).values.tolist() == [0.0, 0.0]


def test_a_small_matrix_has_fewer_pairs() -> None:
    assert len(eigenpairs(matrix([1.0, 2.0]), 5).values) == 2


@pytest.mark.parametrize("words", [{"count": 0}, {"tolerance": 0}, {"max_products": 2}])
def test_impossible_eigenpairs_are_refused(words: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="count of at least 1"):
        eigenpairs(matrix(SPECTRUM), **words)  # type: ignore[arg-type]


def test_unknown_words_are_refused() -> None:
    with pytest.raises(UsageError, match="top"):
        eigenpairs(matrix(SPECTRUM), which="topp")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="xtrace"):
        trace(matrix(SPECTRUM), method="xtrac")  # type: ignore[arg-type]


def test_what_is_not_finite_is_refused() -> None:
    a = matrix(SPECTRUM)
    a[0, 0] = math.nan
    with pytest.raises(UsageError, match="not finite"):
        eigenpairs(a)


@pytest.mark.parametrize("bad", [0.0, math.nan, INF])
def test_lanczos_needs_a_start(bad: float) -> None:
    with pytest.raises(UsageError, match="finite and not zero"):
        Lanczos(torch.eye(3), torch.full((3,), bad), torch.Generator())


def test_lanczos_is_a_factorisation() -> None:
    a = matrix(SPECTRUM)
    lanczos = Lanczos(a, torch.ones(65).double(), generator(0, "test"))
    for _ in range(9):
        lanczos.step()
    v, t = lanczos.basis, lanczos.matrix()
    rest = a @ v - v @ t
    torch.testing.assert_close(v.mT @ v, torch.eye(9).double(), rtol=0, atol=1e-13)
    assert float(rest[:, :-1].abs().max()) < 1e-12
    assert float(torch.linalg.vector_norm(rest[:, -1])) == pytest.approx(lanczos.residual)


def test_density_of_all_steps_is_the_spectrum() -> None:
    values = torch.tensor([-2.0, 0.5, 1.0, 4.0], dtype=torch.float64)
    found = spectral_density(matrix(values), probes=3, steps=10)
    torch.testing.assert_close(found.nodes, values.repeat(3, 1))
    torch.testing.assert_close(found.weights.sum(1), torch.ones(3).double())
    assert found.products == 12
    # One probe of a diagonal matrix by signs weighs every eigenvalue alike.
    diagonal_one = spectral_density(torch.diag(values), probes=1, steps=4)
    torch.testing.assert_close(diagonal_one.weights, torch.full((1, 4), 0.25).double())


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(0, 5))
def test_quadrature_is_exact_to_degree_2m_less_1(steps: int, seed: int) -> None:
    a = matrix(torch.linspace(-1.5, 2.0, 14), seed)
    found = spectral_density(a, probes=2, steps=steps, seed=seed)
    from thalweg.landscape.curvature.lanczos import signs

    for degree in range(2 * steps):
        each = []
        for probe in range(2):
            v = signs(a, generator(seed, "spectral density", probe))
            each.append(float(v @ torch.linalg.matrix_power(a, degree) @ v) / 14)
        value, error = found.mean(lambda x, degree=degree: x**degree)
        assert value == pytest.approx(sum(each) / 2, abs=1e-9)
        assert error == pytest.approx(abs(each[0] - each[1]) / 2, abs=1e-9)


def test_a_space_that_closes_weighs_the_same() -> None:
    found = spectral_density(torch.eye(6).double() * 3, probes=2, steps=4)
    assert found.products == 2
    torch.testing.assert_close(found.weights.sum(1), torch.ones(2).double())
    assert found.mean(lambda x: x) == (pytest.approx(3), pytest.approx(0))


def test_the_curve_is_a_density() -> None:
    found = spectral_density(matrix(SPECTRUM), probes=4, steps=20)
    x, density, error = found.curve(4000, width=0.05)
    assert float(torch.trapezoid(density, x)) == pytest.approx(1, abs=1e-4)
    assert float(torch.trapezoid(density * x, x)) == pytest.approx(
        found.mean(lambda t: t)[0], abs=1e-4
    )
    assert error.shape == density.shape
    assert bool((error >= 0).all())
    alone = spectral_density(matrix(SPECTRUM), probes=1, steps=20)
    assert bool(alone.curve()[2].isnan().all())
    assert math.isnan(alone.mean(lambda t: t)[1])
    for bad in ({"points": 1}, {"width": 0.0}):
        with pytest.raises(UsageError, match="two points"):
            found.curve(**bad)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="one probe"):
        spectral_density(torch.eye(3), probes=0)


DECAYING = [10.0 * 0.7**i for i in range(40)]


@pytest.mark.parametrize("method", ["xtrace", "hutch++", "hutchinson"])
def test_traces_err_as_they_say(method: str) -> None:
    a = matrix(DECAYING)
    found = [trace(a, 12, method, seed=seed) for seed in range(200)]  # type: ignore[arg-type]
    errors = torch.tensor([one.value - sum(DECAYING) for one in found])
    assert all(one.products == 12 for one in found)
    # Unbiased: the mean lies within four of its standard errors.
    assert abs(float(errors.mean())) < 4 * float(errors.std()) / math.sqrt(200)
    told = torch.tensor([one.error for one in found]).square().mean().sqrt()
    assert 0.4 < float(told / errors.std()) < 1.5


def test_better_methods_err_less() -> None:
    a = matrix(DECAYING)
    spread = {
        method: float(torch.tensor([trace(a, 24, method, seed=s).value for s in range(60)]).std())
        for method in ("xtrace", "hutch++", "hutchinson")
    }
    assert spread["xtrace"] < spread["hutch++"] < 0.5 * spread["hutchinson"]


def test_xtrace_leaves_each_probe_out() -> None:
    """The fast formula equals the definition, probe by probe."""
    a, m, n = matrix(DECAYING), 5, 40
    random = generator(7, "trace", "xtrace")
    omega = torch.stack(
        [torch.randn(n, generator=random, dtype=torch.float64) for _ in range(m)], 1
    )
    omega = omega * (math.sqrt(n) / torch.linalg.vector_norm(omega, dim=0))
    each = []
    for i in range(m):
        others = [j for j in range(m) if j != i]
        q = torch.linalg.qr(a @ omega[:, others])[0]
        z = omega[:, i] - q @ (q.mT @ omega[:, i])
        scale = (n - m + 1) / float(z @ z)
        each.append(float((q * (a @ q)).sum()) + scale * float(z @ a @ z))
    found = trace(a, 2 * m, seed=7)
    assert found.value == pytest.approx(sum(each) / m)
    assert found.error == pytest.approx(float(torch.tensor(each).std()) / math.sqrt(m), rel=1e-5)


def test_a_matrix_of_low_rank_has_an_exact_trace() -> None:
    a = matrix([3.0, 2.0] + [0.0] * 28)
    assert trace(a, 10).value == pytest.approx(5)
    assert trace(torch.zeros(30, 30), 10).value == 0


def test_hutchinson_is_exact_on_diagonals() -> None:
    a = torch.diag(torch.arange(1.0, 51.0))
    assert trace(a, 1, "hutchinson").value == pytest.approx(1275)
    assert math.isnan(trace(a, 1, "hutchinson").error)
    found, error = diagonal(a, 3)
    torch.testing.assert_close(found, torch.arange(1.0, 51.0).double())
    assert float(error.max()) == 0
    assert bool(diagonal(a, 1)[1].isnan().all())


def test_a_diagonal_errs_as_it_says() -> None:
    a = matrix(DECAYING)
    found, error = diagonal(a, 400)
    apart = (found - a.diagonal()) / error
    assert float(apart.square().mean()) == pytest.approx(1, abs=0.6)


def test_products_enough_for_all_are_exact() -> None:
    assert trace(matrix([1.0, 2.0, 4.0]), 3).value == pytest.approx(7)


@pytest.mark.parametrize(("method", "few"), [("xtrace", 3), ("hutch++", 2), ("hutchinson", 0)])
def test_too_few_products_are_refused(method: str, few: int) -> None:
    with pytest.raises(UsageError, match="products at least"):
        trace(matrix(DECAYING), few, method)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="one product"):
        diagonal(matrix(DECAYING), 0)


@pytest.mark.parametrize("seed", range(4))
def test_the_start_does_not_prefer_the_second_eigenvector(seed):
    """The top one belongs to a feature whose sum over samples is zero, the second to a constant."""
    random = torch.Generator().manual_seed(0)
    x = 0.3 * torch.randn(64, 300, generator=random)
    x[:, 0] = 34**0.5 * torch.tensor([1.0, -1.0]).repeat(32)
    x[:, 1] = 31**0.5
    model = nn.Linear(300, 1, bias=False)
    objective = Objective(model, lambda m, b: 0.5 * m(b).square().mean(), [x])
    top = eigenpairs(Hessian(objective), 1, tolerance=1e-2, seed=seed)
    exact = torch.linalg.eigvalsh((x.mT @ x / 64).double())[-1]
    assert float(top.values[0]) == pytest.approx(float(exact), rel=0.02)
