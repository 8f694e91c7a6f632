"""The paper's loop of every rule in float64 numpy: what the library's rules must equal.

Written from the papers' formulas alone, with no code of the library. A module of this package may
hold `REFERENCES` (loops by slug), `PROCEDURES` (by slug, for rules that evaluate a closure and are
compared in tests of their own), `SETTINGS` (hyper-parameters under which every term matters),
`GOLDEN` (numbers that the authors' programs print) and `ROUNDING` (by slug, how far rounding may
carry a rule with its defaults, where that is more than 1e-12); they are collected here.
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

from reference.golden import Golden
from reference.loop import Reference, Step, run
from reference.settings import Setting

REFERENCES: dict[str, Reference] = {}
PROCEDURES: dict[str, Callable[..., Any]] = {}
SETTINGS: list[Setting] = []
GOLDEN: list[Golden] = []
ROUNDING: dict[str, float] = {}

for _module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    if not _module.startswith("test_"):
        _found = importlib.import_module(f"{__name__}.{_module}")
        REFERENCES |= getattr(_found, "REFERENCES", {})
        PROCEDURES |= getattr(_found, "PROCEDURES", {})
        SETTINGS += getattr(_found, "SETTINGS", [])
        GOLDEN += getattr(_found, "GOLDEN", [])
        ROUNDING |= getattr(_found, "ROUNDING", {})


def only(slugs: list[str]) -> None:
    """Forget all other rules: for the mutation tool, which runs one rule's tests many times."""
    for loops in (REFERENCES, PROCEDURES):
        # Tests of "newton" include those of "gauss-newton", whose ids hold the word.
        for slug in [one for one in loops if not any(subject in one for subject in slugs)]:
            del loops[slug]
    SETTINGS[:] = [setting for setting in SETTINGS if setting.rule in slugs]
    GOLDEN[:] = [golden for golden in GOLDEN if golden.rule in slugs]


__all__ = [
    "GOLDEN",
    "PROCEDURES",
    "REFERENCES",
    "ROUNDING",
    "SETTINGS",
    "Golden",
    "Reference",
    "Setting",
    "Step",
    "run",
]
