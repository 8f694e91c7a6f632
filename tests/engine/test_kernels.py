"""Compiled kernels on tensors that are large enough for several threads, and what they refuse."""

import warnings
from dataclasses import dataclass

import pytest
import torch

import thalweg.optim
from thalweg.core import registry
from thalweg.engine import Rule, RuleOptimizer, execution

SIZES = (100_000, 7, 33_333, 1)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def run(slug: str, way: str, **hyper) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(3)
    params = [torch.randn(n, generator=random, dtype=torch.float64).requires_grad_() for n in SIZES]
    optimizer = thalweg.optim.create(slug, params, weight_decay=0.1, execution=way, **hyper)
    for _ in range(4):
        for p in params:
            p.grad = torch.randn(p.shape, generator=random, dtype=torch.float64)
        optimizer.step()
    return [p.detach() for p in params]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(
    ("slug", "hyper"), [("adamw", {}), ("prodigy", {}), ("prodigy", {"state_bits": 8})]
)
def test_every_entry_is_updated_once_whatever_the_threads(slug, hyper, count, threads) -> None:
    threads(count)
    ways = run(slug, "compiled", **hyper), run(slug, "loop", **hyper)
    close = 1e-7 if hyper else 1e-12  # where codes tie, ways may round apart
    for found, expected in zip(*ways, strict=True):
        torch.testing.assert_close(found, expected, rtol=close, atol=close)


@dataclass(frozen=True)
class ReadsItsFieldRule(Rule):
    """A rule that breaks the contract: its formula reads a float of its own."""

    def update(self, g, p, s, k):
        return g * self.lr


@dataclass(frozen=True)
class InverseErrorRule(Rule):
    """A rule with an operation that no kernel knows."""

    def update(self, g, p, s, k):
        return torch.erfinv(g.clamp(-0.5, 0.5))


@pytest.mark.parametrize(
    ("rule", "reason", "expected"),
    [
        (ReadsItsFieldRule, "self.lr", 1 - 0.01 * 0.25),
        (InverseErrorRule, "erfinv", 1 - 0.1 * 0.2253120550),
    ],
)
def test_an_untraceable_formula_runs_uncompiled_and_says_why(
    rule, reason, expected, monkeypatch
) -> None:
    monkeypatch.setattr(registry, "_parts", dict(registry._parts))
    execution._warn_once.cache_clear()

    class Optimizer(RuleOptimizer, rule=rule, slug="test-rule"):
        """Runs the rule, and is forgotten after the test."""

    p = torch.ones(3, dtype=torch.float64, requires_grad=True)
    made = Optimizer([("p", p)], lr=0.1, execution="compiled")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            p.grad = torch.full_like(p, 0.25)
            p.data.fill_(1.0)
            made.step()
    told = [str(one.message) for one in caught]
    assert len(told) == 1
    assert reason in told[0]
    torch.testing.assert_close(p.detach(), torch.full_like(p, expected), rtol=1e-9, atol=0)


FUNCTIONS = {
    "exp": torch.exp,
    "log": torch.log,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "cube root": lambda x: x.pow(1 / 3),
    "power": lambda x: x**0.7,
    "atan2": lambda x: torch.atan2(x, x * x),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_those_of_torch_in_every_lane(name, dtype, monkeypatch) -> None:
    """Ordinary numbers, zeros, signs, infinities, NaN and subnormals, in vectors and left over."""
    monkeypatch.setattr(registry, "_parts", dict(registry._parts))

    @dataclass(frozen=True)
    class FunctionRule(Rule):
        def update(self, g, p, s, k):
            return FUNCTIONS[name](g)

    class Optimizer(RuleOptimizer, rule=FunctionRule, slug="test-rule"):
        """Runs the rule, and is forgotten after the test."""

    odd = [0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1e-40, -3.0, 80.0, 1.0]
    random = torch.randn(1000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x = torch.cat([random.exp(), torch.tensor(odd, dtype=torch.float64), -random]).to(dtype)
    p = torch.zeros_like(x).requires_grad_()
    p.grad = x
    Optimizer([("p", p)], lr=1.0, execution="compiled").step()
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    expected = FUNCTIONS[name](x)
    torch.testing.assert_close(-p.detach(), expected, rtol=tolerance, atol=0, equal_nan=True)


def test_sums_of_many_entries_are_accurate_in_float32() -> None:
    """DoG's sums over millions of entries, some of which are much larger than others."""
    random = torch.Generator().manual_seed(5)
    g = torch.randn(3_000_001, generator=random) * 10 ** torch.randn(3_000_001, generator=random)
    p = torch.zeros_like(g).requires_grad_()
    optimizer = thalweg.optim.DoG([("p", p)], eps=0.0, execution="compiled")
    p.grad = g
    optimizer.step()
    exact = float(g.double().square().sum())
    assert optimizer.param_groups[0]["grad_sum_sq"] == pytest.approx(exact, rel=2e-7)
