"""Thalweg: training algorithms, and the tools that show which of them serves your network.

The rooms (`thalweg.optim`, `thalweg.modifier`, `thalweg.around`, `thalweg.schedule`,
`thalweg.average`, `thalweg.merge`, `thalweg.landscape`, `thalweg.recipe`, `thalweg.train`,
`thalweg.log`, `thalweg.tune`, `thalweg.workload`, `thalweg.race`, `thalweg.report`,
`thalweg.serve`, `thalweg.testing`) are imported when first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from thalweg._version import __version__

if TYPE_CHECKING:
    from thalweg import (
        around,
        average,
        landscape,
        log,
        merge,
        modifier,
        optim,
        race,
        recipe,
        report,
        schedule,
        serve,
        testing,
        train,
        tune,
        workload,
    )

__all__ = [
    "__version__",
    "around",
    "average",
    "landscape",
    "log",
    "merge",
    "modifier",
    "optim",
    "race",
    "recipe",
    "report",
    "schedule",
    "serve",
    "testing",
    "train",
    "tune",
    "workload",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"thalweg.{name}")
    raise AttributeError(f"module 'thalweg' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
