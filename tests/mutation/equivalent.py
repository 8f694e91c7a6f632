"""Mutants that no test can tell from the rule, each with the reason why.

A rule's own are in `equivalents/`, one file a family, in a dictionary `EQUIVALENTS`.
"""

import runpy
from pathlib import Path

_ORDER = "all of these start at zero; only the order of the dictionary differs"
_END = "at t = T the warm-up's formula gives the constant that follows it"
_UNREAD = "`advance` sets it before anything reads it"

# By file in the package: (statement before, statement after): the reason.
_BY_FILE: dict[str, dict[tuple[str, str], str]] = {
    "optim/ademamix.py": {
        ("names.insert(0, 'exp_avg_fast')", "names.insert(1, 'exp_avg_fast')"): _ORDER,
        (
            "if self.alpha_warmup is not None and t < self.alpha_warmup:",
            "if self.alpha_warmup is not None and t <= self.alpha_warmup:",
        ): _END,
        (
            "if self.alpha_warmup is not None and t < self.alpha_warmup:",
            "if self.alpha_warmup is not None and t - 1 < self.alpha_warmup:",
        ): _END,
        (
            "if self.beta3_warmup is not None and t < self.beta3_warmup:",
            "if self.beta3_warmup is not None and t <= self.beta3_warmup:",
        ): _END,
        (
            "if self.beta3_warmup is not None and t < self.beta3_warmup:",
            "if self.beta3_warmup is not None and t - 1 < self.beta3_warmup:",
        ): _END,
    },
    "optim/prodigy.py": {
        (
            "eps = self.eps if moves else 1.0",
            "eps = self.eps if moves else 1.2",
        ): "where the learning rate is 0 it only keeps 0 / 0 away, which any positive number does",
        (
            "names = ('exp_avg', 'exp_avg_sq', 's')",
            "names = ('exp_avg_sq', 'exp_avg', 's')",
        ): _ORDER,
        (
            "return {'d': self.d0, 'd_last': self.d0, 'd_max': self.d0, 'd_numerator': 0.0, "
            "'k': 1, 'k_last': 1}",
            "return {'d': self.d0, 'd_last': self.d0, 'd_max': self.d0, 'd_numerator': 0.0, "
            "'k': 1, 'k_last': 2}",
        ): _UNREAD,
    },
}

for _path in sorted(Path(__file__).with_name("equivalents").glob("*.py")):
    _BY_FILE |= runpy.run_path(str(_path))["EQUIVALENTS"]

# (file, statement before, statement after): the reason.
EQUIVALENT: dict[tuple[str, str, str], str] = {
    (file, before, after): reason
    for file, changes in _BY_FILE.items()
    for (before, after), reason in changes.items()
}
