"""Every registered rule passes the conformance suite; and the suite notices broken rules."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

import thalweg.optim  # noqa: F401 - registers the rules
from thalweg.core import registry
from thalweg.testing import CHECKS, check_sharding
from thalweg.testing.subject import Subject

RULES = registry.slugs("rule")


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
@pytest.mark.parametrize("slug", RULES)
def test_rule_conforms(slug: str, check: Callable[[Subject], None]) -> None:
    check(Subject(slug))


def test_sharded_runs_equal_dense_ones() -> None:
    check_sharding(RULES)


def test_twelve_rules_compile_in_one_process() -> None:
    program = """
import torch, warnings
warnings.simplefilter("error")
import thalweg.optim
from thalweg.core import registry
from thalweg.engine import execution
for slug in registry.slugs("rule"):
    p = torch.ones(40, 3, requires_grad=True)
    optimizer = thalweg.optim.create(slug, [("p", p)], execution="compiled")
    for _ in range(3):
        p.grad = torch.ones_like(p)
        optimizer.step()
    assert torch.isfinite(p).all(), slug
print(len(execution._kernels), len(execution._uncompiled))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    element_wise = [slug for slug in RULES if Subject(slug).element_wise]
    kernels, uncompiled = map(int, done.stdout.split())
    assert uncompiled == 0
    assert kernels >= len(element_wise)


def test_float16_without_underflow_is_checked_for_adabelief() -> None:
    subject = Subject("adabelief", {"eps": 1e-6})
    CHECKS["half precision"](subject)
    assert torch.tensor(1e-6).half().item() > 0
