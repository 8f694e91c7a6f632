"""Newton-Schulz against the polynomial of its singular values, and what it is made of."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from thalweg.engine import linear_algebra
from thalweg.engine.linear_algebra import (
    QUINTIC,
    Coefficients,
    merge_axes,
    newton_schulz,
    orthogonalising_dtype,
    symmetric_product,
)
from thalweg.engine.orthogonal import orthogonalised


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def with_singular_values(s: torch.Tensor, columns: int) -> torch.Tensor:
    u = torch.linalg.qr(random(len(s), len(s)))[0]
    v = torch.linalg.qr(random(columns, len(s), seed=1))[0]
    return (u * s) @ v.mT


def by_singular_values(
    x: torch.Tensor, steps: int = 5, coefficients: Coefficients = QUINTIC, eps: float = 1e-7
) -> torch.Tensor:
    a, b, c = coefficients
    u, s, vt = torch.linalg.svd(x.double(), full_matrices=False)
    s = s / (s.square().sum(-1, keepdim=True).sqrt() + eps)
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    return (u * s[..., None, :]) @ vt


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


SIZES = st.integers(1, 12)


@settings(deadline=None, max_examples=60)
@given(
    batch=st.lists(st.integers(1, 3), max_size=2),
    rows=SIZES,
    columns=SIZES,
    steps=st.integers(1, 7),
    coefficients=st.sampled_from([QUINTIC, (2.0, -1.5, 0.5), (1.5, -0.5, 0.0), (0.5, 0.3, 0.2)]),
    eps=st.sampled_from([0.0, 1e-7, 0.5]),
)
def test_newton_schulz_is_a_polynomial_of_singular_values(
    batch: list[int],
    rows: int,
    columns: int,
    steps: int,
    coefficients: Coefficients,
    eps: float,
) -> None:
    x = random(*batch, rows, columns)
    before = x.clone()
    found = newton_schulz(x, steps, coefficients, eps)
    assert found.shape == x.shape
    expected = by_singular_values(x, steps, coefficients, eps)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(x, before)


@pytest.mark.parametrize("shape", [(256, 800), (800, 256), (390, 391), (400, 390)])
def test_newton_schulz_of_large_matrices(shape: tuple[int, int]) -> None:
    x = random(*shape)
    torch.testing.assert_close(newton_schulz(x, 4), by_singular_values(x, 4), rtol=0, atol=1e-12)


ILL_CONDITIONED = {
    "falling": torch.logspace(0, -8, 24, dtype=torch.float64),
    "spike": torch.cat([torch.ones(1), torch.full((23,), 1e-3)]).double(),
    "low rank": (torch.arange(24) < 3).double(),
    "power law": 1 / torch.arange(1, 25, dtype=torch.float64),
}


@pytest.mark.parametrize("columns", [60, 30])
@pytest.mark.parametrize("kind", ILL_CONDITIONED)
def test_newton_schulz_of_ill_conditioned_matrices(kind: str, columns: int) -> None:
    x = with_singular_values(ILL_CONDITIONED[kind], columns)
    expected = by_singular_values(x)
    for one, right in ((x, expected), (x.mT, expected.mT)):
        assert relative_error(newton_schulz(one), right) < 1e-12
        single = newton_schulz(one.float())
        assert single.dtype == torch.float32
        assert relative_error(single, by_singular_values(one.float())) < 1e-4


def test_newton_schulz_in_half_precision_takes_the_plain_form() -> None:
    x = with_singular_values(ILL_CONDITIONED["power law"], 60).bfloat16()
    found = newton_schulz(x)
    assert found.dtype == torch.bfloat16
    assert relative_error(found, by_singular_values(x)) < 0.05


def test_newton_schulz_stays_bounded_for_as_many_steps_as_you_like() -> None:
    x = with_singular_values(ILL_CONDITIONED["low rank"], 60).float()
    assert torch.linalg.matrix_norm(newton_schulz(x, 60), 2) < 1.21


def test_newton_schulz_with_a_steep_polynomial() -> None:
    x = random(2, 5)
    expected = 60 * x / x.norm()
    torch.testing.assert_close(newton_schulz(x, 1, (60.0, 0.0, 0.0), 0.0), expected)


STEEP: Coefficients = (4.0, -4.0, 1.0)


def operations(function: Callable[..., object], *arguments: object) -> int:
    """Return the floating-point operations of the matrix products in a call."""
    with FlopCounterMode(display=False) as counter:
        function(*arguments)
    return counter.get_total_flops()


def plain_form(short: int, long: int, steps: int) -> int:
    return steps * (4 * short**2 * long + 2 * short**3)


def gram_form(short: int, long: int, steps: int, stride: int) -> int:
    total = 0
    for done in range(0, steps, stride):
        own = min(stride, steps - done)
        # X X^T, F X, the first F; then two products for the next A, one for its F, one for all.
        total += 4 * short**2 * long + 2 * short**3 * (1 + 4 * (own - 1))
    return total


@pytest.mark.parametrize(
    ("short", "long", "coefficients", "expected"),
    [
        (8, 8, QUINTIC, plain_form(8, 8, 10)),
        (8, 11, QUINTIC, plain_form(8, 11, 10)),
        (8, 13, QUINTIC, gram_form(8, 13, 10, 3)),
        (8, 30, QUINTIC, gram_form(8, 30, 10, 3)),
        (8, 30, STEEP, gram_form(8, 30, 10, 2)),
        (8, 30, (60.0, 0.0, 0.0), gram_form(8, 30, 10, 1)),
        (8, 30, (1.2, -0.4, 0.1), gram_form(8, 30, 10, 10)),
        (8, 30, (0.5, 0.3, 0.2), gram_form(8, 30, 10, 10)),
    ],
)
def test_newton_schulz_computes_no_more_than_its_form_needs(
    short: int, long: int, coefficients: Coefficients, expected: int
) -> None:
    x = random(short, long).float()
    assert operations(newton_schulz, x, 10, coefficients) == expected
    assert operations(newton_schulz, x.mT, 10, coefficients) == expected
    half = operations(newton_schulz, x.bfloat16(), 10, coefficients)
    assert half == plain_form(short, long, 10)


def test_newton_schulz_with_two_steps_on_one_gram_matrix() -> None:
    x = random(8, 30)
    torch.testing.assert_close(newton_schulz(x, 5, STEEP), by_singular_values(x, 5, STEEP))


def test_newton_schulz_of_nothing_is_nothing() -> None:
    for shape in ((0, 3), (3, 0), (0, 0), (0, 2, 5), (2, 0, 5)):
        assert newton_schulz(torch.zeros(shape)).shape == shape
    assert torch.equal(newton_schulz(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_newton_schulz_keeps_nan() -> None:
    x = random(300, 900)
    x[3, 5] = math.nan
    assert newton_schulz(x).isnan().all()


@pytest.mark.parametrize("eps", [1e-7, 0.5])
def test_newton_schulz_of_a_tensor_as_steepest_descent_takes_it(eps: float) -> None:
    x = random(3, 2, 2)
    found = orthogonalised(x, exact=False, steps=4, eps=eps)
    expected = by_singular_values(x.flatten(1), 4, eps=eps).reshape(x.shape)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("batch", "n", "k"), [(1, 5, 3), (3, 4, 7), (2, 257, 800), (1, 391, 400), (1, 1030, 60)]
)
def test_symmetric_product(batch: int, n: int, k: int) -> None:
    a = random(batch, n, k)
    add = random(batch, n, n, seed=1)
    add = add + add.mT
    product = a @ a.mT
    torch.testing.assert_close(symmetric_product(a, a.mT), product)
    found = symmetric_product(a, a.mT, add, beta=0.7, alpha=-0.3)
    torch.testing.assert_close(found, 0.7 * add - 0.3 * product)
    torch.testing.assert_close(symmetric_product(a, a.mT, add), add + product)


@pytest.mark.parametrize(
    ("n", "k", "halved"),
    [(256, 763, True), (256, 762, False), (255, 800, False), (500, 200, True), (500, 199, False)],
)
def test_symmetric_product_computes_one_half_of_large_products(
    n: int, k: int, halved: bool
) -> None:
    found = symmetric_product(random(1, n, k), random(1, k, n, seed=1))[0]
    assert (found[-1, 0] == found[0, -1]) == halved


@pytest.mark.parametrize(("n", "parts"), [(257, 4), (1023, 4), (1024, 8), (1030, 8)])
def test_symmetric_product_computes_blocks_on_and_above_the_diagonal(n: int, parts: int) -> None:
    k = 5 * 10**7 // n**2 + 1
    size = math.ceil(n / parts)
    entries = sum(min(size, n - low) * (n - low) for low in range(0, n, size))
    a = torch.ones(1, n, k)
    assert operations(symmetric_product, a, a.mT) == 2 * k * entries


def test_symmetric_product_does_not_read_what_it_has_not_written() -> None:
    a = random(1, 3, 2)
    for _ in range(20):
        trash = torch.full((1, 3, 3), math.nan, dtype=torch.float64)
        del trash
        assert torch.isfinite(symmetric_product(a, a.mT)).all()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch):
    """Pretend products to take 3 s in float32, and as long as is said in bfloat16."""
    linear_algebra._fast_dtype.cache_clear()
    asked: list[tuple[str, torch.dtype, float, int]] = []
    seconds = {torch.float32: 3.0, torch.bfloat16: 1.0}

    def pretend(device: torch.device, dtype: torch.dtype, hopeless: float) -> float:
        asked.append((device.type, dtype, hopeless, torch.get_num_threads()))
        return seconds[dtype]

    monkeypatch.setattr(linear_algebra, "_seconds_of_product", pretend)
    yield seconds, asked
    linear_algebra._fast_dtype.cache_clear()


def test_orthogonalising_dtype_is_half_where_that_is_three_times_as_fast(measured) -> None:
    seconds, asked = measured
    x = torch.ones(2, dtype=torch.bfloat16)
    assert orthogonalising_dtype(x) == torch.bfloat16
    assert orthogonalising_dtype(x.float()) == torch.bfloat16
    assert orthogonalising_dtype(x.double()) == torch.float64
    assert [one[:3] for one in asked] == [
        ("cpu", torch.float32, math.inf),
        ("cpu", torch.bfloat16, 3.0),
    ]
    linear_algebra._fast_dtype.cache_clear()
    seconds[torch.bfloat16] = 1.001
    assert orthogonalising_dtype(x) == torch.float32


def test_orthogonalising_dtype_is_measured_on_one_thread_of_a_cpu(measured) -> None:
    seconds, asked = measured
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        orthogonalising_dtype(torch.ones(2))
        orthogonalising_dtype(torch.ones(2, device="meta"))
        assert [one[3] for one in asked] == [1, 1, 2, 2]
        linear_algebra._fast_dtype.cache_clear()
        del seconds[torch.bfloat16]
        with pytest.raises(KeyError):
            orthogonalising_dtype(torch.ones(2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("hopeless", "products"), [(math.inf, 8), (2.0, 8), (1.9, 2)])
def test_orthogonalising_dtype_takes_the_least_of_some_times(
    hopeless: float, products: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [5.0, 2.0, 7.0, 7.0, 1.0, 7.0, 7.0, 7.0]
    clock = iter([x for one in seconds for x in (10.0, 10.0 + one)])
    monkeypatch.setattr(linear_algebra.time, "perf_counter", lambda: next(clock))
    cpu = torch.device("cpu")
    found = linear_algebra._seconds_of_product(cpu, torch.float32, hopeless)
    assert found == min(seconds[:products])
    assert len(list(clock)) == 2 * (8 - products)


@pytest.mark.parametrize(("device", "size"), [("cpu", 256), ("cuda", 2048)])
def test_orthogonalising_dtype_is_found_by_products_on_the_device(
    device: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, ...]] = []

    def ones(*shape: int, dtype: object = None, device: object = None) -> torch.Tensor:
        asked.append((*shape, dtype, device))
        return torch.zeros(3, 3)

    monkeypatch.setattr(linear_algebra.torch, "ones", ones)
    where = torch.device(device)
    arguments = (where, torch.bfloat16, math.inf)
    assert operations(linear_algebra._seconds_of_product, *arguments) == 8 * 2 * 3**3
    assert asked == [(size, size, torch.bfloat16, where)]


def test_merge_axes() -> None:
    assert merge_axes((2, 3, 4), 6) == (6, 4)
    assert merge_axes((2, 3, 4), 5) == (2, 3, 4)
    assert merge_axes((2, 3, 4), 24) == (24,)
    assert merge_axes((7, 1, 5, 2), 6) == (7, 5, 2)
    assert merge_axes((), 6) == ()
