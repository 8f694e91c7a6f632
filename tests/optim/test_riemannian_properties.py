"""Rules on manifolds: flat space, geodesics, constraints, eigenvectors, hyperbolic embedding."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from thalweg import optim
from thalweg.core.errors import UsageError
from thalweg.engine import Numbers, State
from thalweg.engine.manifold import Euclidean, PoincareBall, Sphere, Stiefel, fits
from thalweg.engine.riemannian import RiemannianRule

RULES = ("riemannian-sgd", "riemannian-adam", "riemannian-amsgrad", "riemannian-adagrad")
KINDS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "euclidean": (Euclidean(), (3, 4)),
    "sphere": (Sphere(), (2, 3, 4)),
    "poincare": (PoincareBall(), (2, 3, 4)),
    "stiefel": (Stiefel(), (2, 5, 3)),
}


def drawn(kind: str, seed: int) -> tuple[Any, Tensor, Tensor, Tensor]:
    """Return a manifold, a point of it and two tangent vectors."""
    manifold, shape = KINDS[kind]
    random = torch.Generator().manual_seed(seed)
    x, u, v = (torch.randn(shape, generator=random, dtype=torch.float64) for _ in range(3))
    x = x * 0.3 if kind == "poincare" else manifold.projx(x)
    return manifold, x, manifold.egrad2rgrad(x, u) * 0.2, manifold.egrad2rgrad(x, v)


def product(kind: str, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Return <u, v>_x by polarisation."""
    manifold = KINDS[kind][0]
    plus, minus = manifold.component_inner(x, u + v), manifold.component_inner(x, u - v)
    return (plus - minus) / 4


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_manifold_riemannian_walks_stay_on_it_and_start_along_the_tangent(
    kind: str, exact: bool
) -> None:
    manifold, x, u, v = drawn(kind, 0)
    walk = manifold.expmap_transp if exact else manifold.retr_transp
    y, carried = walk(x, u, v)
    torch.testing.assert_close(manifold.projx(y), y, rtol=0, atol=1e-12)
    # Carried vectors are tangent: projecting them again changes nothing.
    scale = manifold.egrad2rgrad(y, carried) / carried if kind == "poincare" else 1.0
    torch.testing.assert_close(manifold.egrad2rgrad(y, carried), carried * scale)
    step = 1e-6
    near, _ = walk(x, u * step, v)
    torch.testing.assert_close((near - x) / step, u, rtol=1e-4, atol=1e-5)
    still, kept = walk(x, u * 0, v)
    torch.testing.assert_close(still, x, rtol=0, atol=1e-12)
    torch.testing.assert_close(kept, v, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["sphere", "poincare"])
def test_manifold_riemannian_parallel_transport_keeps_products(kind: str) -> None:
    manifold, x, u, v = drawn(kind, 1)
    y, along = manifold.expmap_transp(x, u, u)
    _, other = manifold.expmap_transp(x, u, v)
    for a, b, p, q in ((u, u, along, along), (u, v, along, other), (v, v, other, other)):
        torch.testing.assert_close(product(kind, x, a, b), product(kind, y, p, q))
    back, _ = manifold.expmap_transp(y, -along, u)
    torch.testing.assert_close(back, x)


def test_manifold_riemannian_poincare_distance_is_the_length_of_the_walk() -> None:
    ball, x, u, v = drawn("poincare", 2)
    y, _ = ball.expmap_transp(x, u, v)
    length = ball.component_inner(x, u).sqrt().squeeze(-1)
    torch.testing.assert_close(ball.distance(x, y), length)
    cosh = 1 + 2 * (x - y).square().sum(-1) / ((1 - x.square().sum(-1)) * (1 - y.square().sum(-1)))
    torch.testing.assert_close(ball.distance(x, y), cosh.acosh())


def test_manifold_riemannian_poincare_gradient_is_steepest_in_its_metric() -> None:
    ball, x, _, _ = drawn("poincare", 3)
    g = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    r = ball.egrad2rgrad(x, g)
    # <r, v>_x is the derivative along v.
    for v in (r, torch.ones_like(r)):
        torch.testing.assert_close(
            product("poincare", x, r, v).squeeze(-1), (g * v).sum(-1), rtol=1e-9, atol=1e-12
        )


def test_manifold_riemannian_poincare_points_are_drawn_inside() -> None:
    ball = PoincareBall()
    outside = torch.tensor([[3.0, 4.0], [0.3, 0.4]], dtype=torch.float64)
    inside = ball.projx(outside)
    assert torch.equal(ball.projx(outside[None]), inside[None])
    limit = 1 - 10 * torch.finfo(torch.float64).eps ** 0.5
    assert inside[0].norm().item() == pytest.approx(limit, abs=1e-12)
    assert torch.equal(inside[1], outside[1])
    for walk in (ball.retr_transp, ball.expmap_transp):
        y, _ = walk(outside[1:], torch.tensor([[90.0, 90.0]]).double(), outside[1:])
        assert y.norm().item() <= limit + 1e-15


@pytest.mark.parametrize("kind", ["sphere", "stiefel"])
def test_manifold_riemannian_arcs_end_on_it_though_rounding_left_it(kind: str) -> None:
    manifold, x, u, v = drawn(kind, 4)
    y, _ = manifold.expmap_transp(x * (1 + 1e-4), u, v)
    torch.testing.assert_close(manifold.projx(y), y, rtol=0, atol=1e-14)


def test_manifold_riemannian_poincare_distances_from_border_to_border_are_finite() -> None:
    x = torch.tensor([1 - 1e-9, 0.0], dtype=torch.float64)
    far = PoincareBall().distance(x, -x)
    # The most that the ball tells apart.
    assert float(far) == pytest.approx(2 * math.atanh(1 - 1e-12), abs=1e-9)
    x[0] = 0.5
    near = PoincareBall().distance(x, -x)
    assert float(near) == pytest.approx(4 * math.atanh(0.5), rel=1e-14)


def test_manifold_riemannian_stiefel_works_where_its_points_are() -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        x = torch.eye(3, dtype=torch.float32)[:, :2]
        y, _ = Stiefel().expmap_transp(x, x.flip(0) * 0.1, x)
    finally:
        torch.set_default_dtype(before)
    assert y.dtype == torch.float32
    x = torch.ones(3, 2, device="meta")
    for walk in (Stiefel().expmap_transp, Stiefel().retr_transp):
        y, carried = walk(x, x, x)
        assert y.device == carried.device == x.device


def test_manifold_riemannian_stiefel_geodesic_on_one_column_is_a_great_circle() -> None:
    x = torch.tensor([[0.6], [0.0], [0.8]], dtype=torch.float64)
    u = Stiefel().egrad2rgrad(x, torch.tensor([[0.5], [1.0], [0.2]], dtype=torch.float64))
    y, _ = Stiefel().expmap_transp(x, u, u)
    z, _ = Sphere().expmap_transp(x.mT, u.mT, u.mT)
    torch.testing.assert_close(y, z.mT)


@pytest.mark.parametrize("exact", [True, False])
def test_flat_space_is_the_ordinary_rule(exact: bool) -> None:
    pairs: list[tuple[str, Any, dict[str, Any]]] = [
        ("riemannian-adam", torch.optim.Adam, {"weight_decay": 0.1}),
        ("riemannian-amsgrad", torch.optim.Adam, {"weight_decay": 0.1, "amsgrad": True}),
        ("riemannian-adagrad", torch.optim.Adagrad, {"initial_accumulator_value": 0.1}),
        ("riemannian-sgd", torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    ]
    for slug, theirs, hyper in pairs:
        p, q = (torch.nn.Parameter(torch.ones(3, 2, dtype=torch.float64)) for _ in range(2))
        own = {k: x for k, x in hyper.items() if k != "amsgrad"}
        mine = optim.create(slug, [p], lr=0.05, exact=exact, **own)
        other = theirs([q], lr=0.05, **hyper)
        for t in range(20):
            g = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(t))
            p.grad, q.grad = g.clone(), g.clone()
            mine.step()
            other.step()
        torch.testing.assert_close(p, q, rtol=0, atol=1e-14)


def rayleigh(slug: str, steps: int, lr: float = 0.1) -> list[Tensor]:
    """Return the path of -x^T diag(3, 1, 0.5) x on the sphere."""
    x = torch.nn.Parameter(torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64))
    weights = torch.tensor([3.0, 1.0, 0.5], dtype=torch.float64)
    optimizer = optim.create(slug, [x], lr=lr, manifold="sphere")
    path = []
    for _ in range(steps):
        x.grad = -2 * weights * x.detach()
        optimizer.step()
        path.append(x.detach().clone())
        m = optimizer.state[x].get("exp_avg", torch.zeros(3, dtype=torch.float64))
        assert abs(float((m * x.detach()).sum())) < 1e-14
        assert abs(float(x.detach().norm()) - 1) < 1e-15
    return path


def test_riemannian_adam_on_the_sphere_follows_the_published_path() -> None:
    path = rayleigh("riemannian-adam", 300)
    expected = {
        1: [0.6766252890, 0.0, 0.7363275210],
        2: [0.7464352178, 0.0, 0.6654580871],
        5: [0.9082584194, 0.0, 0.4184096600],
        300: [1.0, 0.0, 5.24e-8],
    }
    for t, point in expected.items():
        np.testing.assert_allclose(path[t - 1].numpy(), point, rtol=0, atol=1e-9)


@pytest.mark.parametrize("slug", RULES)
def test_rayleigh_quotients_end_at_the_leading_eigenvector(slug: str) -> None:
    end = rayleigh(slug, 300, lr=0.1)[-1]
    assert abs(float(end[0])) > 1 - 1e-6


@pytest.mark.parametrize("slug", RULES)
def test_orthonormal_columns_find_the_leading_subspace(slug: str) -> None:
    random = torch.Generator().manual_seed(0)
    a = torch.randn(8, 8, generator=random, dtype=torch.float64)
    matrix = a @ a.mT
    x = torch.nn.Parameter(torch.randn(8, 2, generator=random, dtype=torch.float64))
    lr = 0.3 if slug == "riemannian-adagrad" else 0.02
    optimizer = optim.create(slug, [x], lr=lr, manifold="stiefel")
    for _ in range(800):
        x.grad = -2 * matrix @ x.detach() / 8
        optimizer.step()
    identity = torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(x.detach().mT @ x.detach(), identity)
    best = torch.linalg.eigvalsh(matrix)[-2:].sum()
    assert float((x.detach().mT @ matrix @ x.detach()).trace() / best) > 0.999


@pytest.mark.parametrize("slug", RULES)
def test_a_tree_embeds_into_the_poincare_ball(slug: str) -> None:
    """Distances in the disc come near to those in a binary tree of 7 nodes."""
    nodes = range(1, 8)

    def hops(i: int, j: int) -> int:
        count = 0
        while i != j:
            i, j = (i // 2, j) if i > j else (i, j // 2)
            count += 1
        return count

    pairs = list(itertools.combinations(nodes, 2))
    left, right = (torch.tensor(side) - 1 for side in zip(*pairs, strict=True))
    target = torch.tensor([2.0 * hops(i, j) for i, j in pairs], dtype=torch.float64)
    random = torch.Generator().manual_seed(0)
    x = torch.nn.Parameter(0.1 * torch.randn(7, 2, generator=random, dtype=torch.float64))
    lr = {"riemannian-sgd": 3.0, "riemannian-adagrad": 1.0}.get(slug, 0.2)
    optimizer = optim.create(slug, [x], lr=lr, manifold="poincare")
    ball = PoincareBall()

    def stress() -> Tensor:
        return (ball.distance(x[left], x[right]) / target - 1).square().mean()

    for _ in range(800):
        optimizer.zero_grad()
        stress().backward()
        optimizer.step()
    assert float(stress().detach()) < 0.01
    assert x.detach().norm(dim=-1).max() < 1
    found = ball.distance(x[left], x[right]).detach()
    assert float(torch.corrcoef(torch.stack([found, target]))[0, 1]) > 0.97


def test_manifold_riemannian_of_a_parameter_comes_first() -> None:
    x = torch.nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    x.manifold = Sphere()  # type: ignore[attr-defined]
    y = torch.nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    optimizer = optim.RiemannianSGD([x, y], lr=0.1)
    x.grad, y.grad = torch.ones(2).double(), torch.ones(2).double()
    optimizer.step()
    assert float(x.detach().norm()) == pytest.approx(1.0)
    torch.testing.assert_close(y.detach(), torch.tensor([2.9, 3.9]).double())


def test_riemannian_rules_say_what_they_need() -> None:
    rule, x = RiemannianRule(), torch.zeros(2)
    with pytest.raises(NotImplementedError, match="RiemannianRule has no tangent"):
        rule.tangent(Euclidean(), x, x, State(), Numbers())
    assert rule.takes(torch.zeros(()))
    sphere, number = RiemannianRule(manifold="sphere"), torch.zeros(())
    assert not sphere.takes(number)
    number.manifold = Sphere()  # type: ignore[attr-defined]
    assert sphere.takes(number)


def test_riemannian_rules_keep_a_number_for_each_component() -> None:
    shapes = {"euclidean": (3, 4), "sphere": (3, 1), "poincare": (3, 1)}
    p = torch.nn.Parameter(torch.ones(3, 4))
    for name, shape in shapes.items():
        found = RiemannianRule(manifold=name).component(p)  # type: ignore[arg-type]
        assert torch.equal(found, torch.zeros(shape))
        assert not found.requires_grad


def test_manifold_riemannian_may_differ_by_group() -> None:
    on, off = (torch.nn.Parameter(torch.tensor([3.0, 4.0])) for _ in range(2))
    optimizer = optim.RiemannianAdam([{"params": [on], "manifold": "sphere"}, {"params": [off]}])
    on.grad, off.grad = torch.ones(2), torch.ones(2)
    optimizer.step()
    assert float(on.detach().norm()) == pytest.approx(1.0)
    assert float(off.detach().norm()) > 4.9


def test_manifold_riemannian_shapes_that_do_not_fit_are_refused() -> None:
    wide = torch.nn.Parameter(torch.ones(2, 3))
    with pytest.raises(UsageError, match="shape"):
        optim.RiemannianAdam([wide], manifold="stiefel")
    with pytest.raises(UsageError, match="shape"):
        optim.RiemannianSGD([torch.nn.Parameter(torch.ones(()))], manifold="sphere")
    with pytest.raises(UsageError, match="manifold"):
        optim.RiemannianSGD([wide], manifold="torus")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="momentum"):
        optim.RiemannianSGD([wide], momentum=1.0)


def test_manifold_riemannian_shapes_that_fit() -> None:
    tall = ((3, 3), (3, 2), (4, 3, 2), (1, 1))
    for shape in (*tall, (2, 3), (4, 2, 3), (3,), ()):
        p = torch.ones(shape)
        assert fits(p, "stiefel") == (shape in tall)
        assert fits(p, "sphere") == fits(p, "poincare") == (shape != ())
        assert fits(p, "euclidean")


def test_manifold_riemannian_arcs_have_the_length_of_the_step() -> None:
    x = torch.nn.Parameter(torch.tensor([1.0, 0.0], dtype=torch.float64))
    optimizer = optim.RiemannianSGD([x], lr=0.3, manifold="sphere", exact=True)
    x.grad = torch.tensor([0.0, -1.0], dtype=torch.float64)
    optimizer.step()
    torch.testing.assert_close(
        x.detach(), torch.tensor([math.cos(0.3), math.sin(0.3)], dtype=torch.float64)
    )
