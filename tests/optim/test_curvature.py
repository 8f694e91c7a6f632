"""Second derivatives against closed forms, and the linear algebra of second-order rules."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from curved_runs import ENTROPY, SHAPES, SQUARES, assert_close, evaluated, start
from torch import Tensor, nn

from reference.curved import Curved
from thalweg import optim
from thalweg.engine import Evaluations
from thalweg.engine.one_vector import vector
from thalweg.engine.second_order import (
    Linearised,
    Probes,
    conjugate_gradients,
    eigenpairs,
    hessian,
    hessian_product,
    hutchinson,
    krylov,
    shifted,
)

W = start()


def _evaluations(
    problem: Curved, dtype: torch.dtype = torch.float64, decay: float = 0.0
) -> Evaluations:
    parts = torch.tensor(W, dtype=dtype).split([int(np.prod(shape)) for shape in SHAPES])
    params = [nn.Parameter(x.reshape(s).clone()) for x, s in zip(parts, SHAPES, strict=True)]

    def closure() -> tuple[Tensor, Tensor]:
        return evaluated(problem, torch.cat([p.reshape(-1) for p in params]))

    return Evaluations(params, closure, "Test", decay)


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([x.reshape(-1) for x in tensors])


@pytest.mark.parametrize("problem", [SQUARES[0], ENTROPY[0], Curved.drawn(7, "entropy", rows=30)])
def test_second_order_derivatives_have_their_closed_forms(problem: Curved) -> None:
    evaluations = _evaluations(problem)
    _, gradients = evaluations.graph()
    with torch.no_grad():
        assert_close(hessian(gradients, evaluations.params), problem.hessian(W), 1e-12)
        point = Linearised(evaluations)
        assert_close(float(point.loss.detach()), problem.loss(W), 1e-12)
        assert_close(point.gradient, problem.gradient(W), 1e-12)
        assert_close(point.residual, problem.residual(W), 1e-12)
        assert_close(point.jacobian, problem.jacobian(W), 1e-12)
        assert_close(point.output_hessian, problem.output_hessian(W), 1e-12)
        assert_close(point.gauss_newton(), problem.gauss_newton(W), 1e-12)
        loss, g = point.penalised(torch.tensor(2 * W), 0.3)
        assert_close(loss, problem.loss(W) + 0.6 * W @ W, 1e-12)
        assert_close(g, problem.gradient(W) + 0.6 * W, 1e-12)
        for seed in (1, 2):
            v = start(seed=seed)
            assert_close(point.product(torch.tensor(v)), problem.gauss_newton(W) @ v, 1e-12)


def test_second_order_derivatives_pass_through_attention() -> None:
    """The fused attention of CPUs has no second derivative; the plain formula has."""
    x = torch.randn(3, 1, 2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def product(attention: Callable[..., torch.Tensor]) -> torch.Tensor:
        p = torch.nn.Parameter(x.clone())
        evaluations = Evaluations([p], lambda: attention(p[0], p[1], p[2]).pow(3).sum(), "Test")
        gradients = evaluations.graph()[1]
        return torch.autograd.grad((gradients[0] * x.sin()).sum(), p)[0]

    def plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.softmax(q @ k.mT / 2, -1) @ v

    assert_close(product(torch.nn.functional.scaled_dot_product_attention), product(plain), 1e-12)


def test_second_order_hessian_is_symmetric_to_the_last_bit() -> None:
    evaluations = _evaluations(ENTROPY[0], torch.float32)
    found = hessian(evaluations.graph()[1], evaluations.params)
    assert found.dtype == torch.float32
    assert torch.equal(found, found.mT)


def test_second_order_vectors_are_float32_at_least() -> None:
    evaluations = _evaluations(SQUARES[0], torch.bfloat16)
    point = Linearised(evaluations)
    for x in (point.residual, point.gradient, point.jacobian, point.output_hessian):
        assert x.dtype == torch.float32
    product = point.product(torch.ones(8))
    assert product.dtype == torch.float32
    assert_close(product, SQUARES[0].gauss_newton(W) @ np.ones(8), 0.1)


def test_second_order_derivatives_of_what_is_not_reached_are_zero() -> None:
    a, b = (nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2))
    evaluations = Evaluations([a, b], lambda: (3 * a).sum() + 0 * a.sum() ** 2, "Test")
    _, gradients = evaluations.graph()
    assert (hessian(gradients, [a, b]) == 0).all()
    evaluations = Evaluations([a, b], lambda: (3 * a).sum(), "Test")
    _, gradients = evaluations.graph()
    assert (hessian(gradients, [a, b]) == 0).all()
    vectors = [torch.ones_like(a), torch.ones_like(b)]
    assert all((x == 0).all() for x in hessian_product(gradients, [a, b], vectors))
    evaluations = Evaluations([a, b], lambda: (a**3).sum(), "Test")
    products = hessian_product(evaluations.graph()[1], [a, b], vectors)
    assert_close(_flat(products), [6, 6, 0, 0])


# Probes


def _probes(params: list[nn.Parameter], seed: int = 0, names: str = "ab") -> Probes:
    named = list(zip(names, params, strict=True)) if names else params
    return Probes(optim.create("adahessian", named), seed, "test")


def test_second_order_probes_are_signs_and_normals_drawn_anew() -> None:
    params = [nn.Parameter(torch.zeros(40, 50)), nn.Parameter(torch.zeros((), dtype=torch.float64))]
    probes = _probes(params)
    signs = vector(probes.signs(1))
    assert set(signs.tolist()) == {-1.0, 1.0}
    assert abs(float(signs.mean())) < 0.1
    normal = vector(probes.normals(1))
    assert abs(float(normal.mean())) < 0.1
    assert abs(float(normal.std()) - 1) < 0.1
    for kind in ("signs", "normals"):
        one = getattr(probes, kind)(1)
        assert [(x.shape, x.dtype) for x in one] == [(p.shape, p.dtype) for p in params]
        assert torch.equal(vector(one), vector(getattr(_probes(params), kind)(1)))
        for other in (getattr(probes, kind)(2), getattr(_probes(params, seed=1), kind)(1)):
            assert not torch.equal(vector(one), vector(other))


def test_second_order_probes_belong_to_names_and_otherwise_to_places() -> None:
    params = [nn.Parameter(torch.zeros(9)) for _ in range(2)]
    a, b = _probes(params).normals()
    assert not torch.equal(a, b)
    swapped = _probes(params, names="ba").normals()
    assert torch.equal(swapped[0], b)
    assert torch.equal(swapped[1], a)
    first, second = _probes(params, names="").normals()
    assert not torch.equal(first, second)
    params[0].requires_grad_(False)
    (only,) = _probes(params).normals()
    assert torch.equal(only, b)


def test_second_order_adahessian_hutchinson_diagonal_is_unbiased() -> None:
    evaluations = _evaluations(ENTROPY[1])
    _, gradients = evaluations.graph()
    probes = _probes(evaluations.params, names="abc")
    found = vector(hutchinson(gradients, evaluations.params, 1500, probes))
    H = ENTROPY[1].hessian(W)
    off = H - np.diag(np.diag(H))
    # The variance of an entry is the sum of squares of its row beside the diagonal.
    deviations = np.sqrt((off**2).sum(1) / 1500)
    assert (np.abs(found.numpy() - np.diag(H)) < 4 * deviations).all()
    once, twice = (
        vector(hutchinson(gradients, evaluations.params, n, probes)).numpy() for n in (1, 2)
    )
    second = vector(probes.signs(1)).numpy()
    assert_close(twice, (once + second * (H @ second)) / 2)


def test_second_order_hutchinson_is_exact_for_a_diagonal_hessian() -> None:
    p = nn.Parameter(torch.tensor(W))
    _, gradients = Evaluations([p], lambda: (p**4).sum(), "Test").graph()
    assert_close(hutchinson(gradients, [p], 3, _probes([p], names="a"))[0], 12 * W**2, 1e-14)


# Linear algebra

H = torch.tensor(SQUARES[0].hessian(W))


def test_second_order_eigenpairs_of_what_is_not_finite_are_nan() -> None:
    values, basis = eigenpairs(H)
    assert_close(basis @ torch.diag(values) @ basis.mT, H, 1e-12)
    for bad in (torch.nan, torch.inf):
        matrix = H.clone()
        matrix[1, 2] = bad
        values, basis = eigenpairs(matrix)
        assert values.shape == (8,)
        assert basis.shape == (8, 8)
        assert values.isnan().all()
        assert basis.isnan().all()


def test_second_order_shifted_raises_the_diagonal() -> None:
    assert_close(shifted(H, 0.3), H.numpy() + 0.3 * np.eye(8), 0.0)


def test_second_order_krylov_spans_the_space_and_stops_when_it_closes() -> None:
    g, more = torch.tensor(start(seed=4)), torch.tensor(start(seed=5))
    basis, image = krylov(lambda v: H @ v, g, 3, more)
    assert_close(basis.mT @ basis, np.eye(4), 1e-12)
    assert_close(image, H @ basis, 1e-12)
    for x in (g, H @ g, H @ H @ g, more):
        assert_close(basis @ (basis.mT @ x), x, 1e-9)
    basis, _ = krylov(lambda v: H @ v, g, 3, torch.zeros_like(g))
    assert basis.shape == (8, 3)
    # Two eigenvectors: the space closes after two, and what is inside of it adds nothing.
    _, vectors = eigenpairs(H)
    inside = vectors[:, 1] + vectors[:, 5]
    counted = []
    basis, image = krylov(lambda v: (counted.append(v), H @ v)[1], inside, 6, vectors[:, 5])
    assert basis.shape == image.shape == (8, 2)
    assert len(counted) == 2
    basis, image = krylov(lambda v: H @ v, torch.zeros_like(g), 3, torch.zeros_like(g))
    assert basis.shape == image.shape == (8, 0)


def test_second_order_krylov_is_orthonormal_where_rounding_is_large() -> None:
    x = torch.ones(8, dtype=torch.float64)
    steep = torch.diag(torch.logspace(-6, 6, 8, dtype=torch.float64))
    basis, _ = krylov(lambda v: steep @ v, x, 8, 0 * x)
    assert_close(basis.mT @ basis, np.eye(basis.shape[1]), 1e-13)


def test_second_order_conjugate_gradients_end_after_as_many_products_as_needed() -> None:
    A, b = H @ H + torch.eye(8, dtype=torch.float64), torch.tensor(start(seed=4))
    products: list[Tensor] = []

    def product(v: Tensor) -> Tensor:
        products.append(v)
        return A @ v

    assert_close(conjugate_gradients(product, b, 30, 1e-12), torch.linalg.solve(A, b), 1e-9)
    assert len(products) <= 16
    products.clear()
    assert (conjugate_gradients(product, 0 * b, 30, 0.0) == 0).all()
    assert not products
