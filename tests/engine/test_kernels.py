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


def run(slug: str, way: str) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(3)
    params = [torch.randn(n, generator=random, dtype=torch.float64).requires_grad_() for n in SIZES]
    optimizer = thalweg.optim.create(slug, params, weight_decay=0.1, execution=way)
    for _ in range(4):
        for p in params:
            p.grad = torch.randn(p.shape, generator=random, dtype=torch.float64)
        optimizer.step()
    return [p.detach() for p in params]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("slug", ["adamw", "prodigy"])
def test_every_entry_is_updated_once_whatever_the_threads(slug, count, threads) -> None:
    threads(count)
    for found, expected in zip(run(slug, "compiled"), run(slug, "loop"), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


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
