"""The tool that breaks rules makes the breaks it should, each once, and each one valid Python."""

import ast
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mutations import mutants

SOURCE = '''
"""A rule."""

from dataclasses import dataclass

from thalweg.engine import Rule, RuleOptimizer


@dataclass(frozen=True)
class ThingRule(Rule):
    """The formula."""

    betas: tuple[float, float] = (0.9, 0.999)

    def check(self):
        require(self, "betas", self.betas[0] >= 0, "at least 0")

    def scalars(self, t):
        beta1, beta2 = self.betas
        if self.rectify and t <= 5:
            beta1 = 0.5
        return {"correction": 1 - beta1**t, "beta2": beta2}

    def update(self, g, p, s, k):
        """Return the direction."""
        g = g + p * k.weight_decay
        m = s.exp_avg.lerp_(g, 1 - k.beta1)
        s.exp_avg_sq.mul_(k.beta2).add_(g * g, alpha=1 - k.beta2)
        return -m.abs() / max(k.correction, 2)

    def update_all(self, g, p, s, k):
        return list(zip(g, p, strict=True))


class Shape(Protocol):
    """What it asks for."""

    def area(self):
        """Return the area."""
        ...


class Thing(RuleOptimizer, rule=ThingRule, slug="thing", space={"lr": Log(1e-4, 3e-2)}):
    """For users."""

    extra = 3
'''

MUTANTS = list(mutants(SOURCE))
CHANGES = {mutant.change for mutant in MUTANTS}


@pytest.mark.parametrize(
    "change",
    [
        # a bias correction lost, 1 - beta for beta, t for its neighbours
        "return -m.abs() / max(k.correction, 2)  ->  return -m.abs()",
        "m = s.exp_avg.lerp_(g, 1 - k.beta1)  ->  m = s.exp_avg.lerp_(g, k.beta1)",
        "return {'correction': 1 - beta1 ** t, 'beta2': beta2}"
        "  ->  return {'correction': 1 - beta1 ** (t + 1), 'beta2': beta2}",
        "return {'correction': 1 - beta1 ** t, 'beta2': beta2}"
        "  ->  return {'correction': 1 - beta1 ** (t - 1), 'beta2': beta2}",
        # two betas swapped
        "beta1, beta2 = self.betas  ->  beta2, beta1 = self.betas",
        "m = s.exp_avg.lerp_(g, 1 - k.beta1)  ->  m = s.exp_avg.lerp_(g, 1 - k.beta2)",
        # an abs, a square, a clip, a decay, a sign lost
        "return -m.abs() / max(k.correction, 2)  ->  return -m / max(k.correction, 2)",
        "s.exp_avg_sq.mul_(k.beta2).add_(g * g, alpha=1 - k.beta2)"
        "  ->  s.exp_avg_sq.mul_(k.beta2).add_(g, alpha=1 - k.beta2)",
        "return -m.abs() / max(k.correction, 2)  ->  return -m.abs() / k.correction",
        "return -m.abs() / max(k.correction, 2)  ->  return -m.abs() / min(k.correction, 2)",
        "g = g + p * k.weight_decay  ->  g = g",
        "g = g + p * k.weight_decay  ->  g = g - p * k.weight_decay",
        "return -m.abs() / max(k.correction, 2)  ->  return m.abs() / max(k.correction, 2)",
        # a state update removed, whole or in part
        "s.exp_avg_sq.mul_(k.beta2).add_(g * g, alpha=1 - k.beta2)  ->  (removed)",
        "s.exp_avg_sq.mul_(k.beta2).add_(g * g, alpha=1 - k.beta2)"
        "  ->  s.exp_avg_sq.add_(g * g, alpha=1 - k.beta2)",
        "m = s.exp_avg.lerp_(g, 1 - k.beta1)  ->  m = s.exp_avg",
        # comparisons, conditions, constants, defaults
        "if self.rectify and t <= 5:  ->  if self.rectify and t < 5:",
        "if self.rectify and t <= 5:  ->  if not (self.rectify and t <= 5):",
        "if self.rectify and t <= 5:  ->  if t <= 5:",
        "beta1 = 0.5  ->  beta1 = 0.6",
        "return -m.abs() / max(k.correction, 2)  ->  return -m.abs() / max(k.correction, 3)",
        "betas: tuple[float, float] = (0.9, 0.999)  ->  betas: tuple[float, float] = (0.999, 0.9)",
        "def scalars(self, t):  ->  (removed)",
    ],
)
def test_makes_the_break(change: str) -> None:
    assert change in CHANGES


def test_leaves_checks_and_descriptions_alone() -> None:
    for change in CHANGES:
        assert "require" not in change
        assert "extra" not in change
        assert "area" not in change
        assert "..." not in change
        assert "Log" not in change
        assert "strict=False" not in change
        assert "zip(g, p)" not in change


def test_every_mutant_is_another_program() -> None:
    sources = [mutant.source for mutant in MUTANTS]
    assert len(set(sources)) == len(sources)
    assert ast.unparse(ast.parse(SOURCE)) not in sources
    for source in sources:
        compile(source, "mutant", "exec")
