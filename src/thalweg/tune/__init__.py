"""Tuning: searchers for hyper-parameters, on training algorithms and on any function.

Example::

    from thalweg import tune
    from thalweg.core.space import Linear, Log

    space = {"lr": Log(1e-4, 1.0), "momentum": Linear(0.0, 0.99)}
    found = tune.minimise(lambda v: (v["lr"] - 0.1) ** 2 + v["momentum"], space, trials=20)
    print(found.best.values)
"""

import importlib
from typing import TYPE_CHECKING, Any

from thalweg.tune.catalogue import named
from thalweg.tune.importance import Slice, importance, slices
from thalweg.tune.objective import Job, Objective, Outcome
from thalweg.tune.search import Found, minimise, search
from thalweg.tune.searcher import Proposal, Searcher, Study, Trial
from thalweg.tune.space import SearchSpace, When

if TYPE_CHECKING:
    from thalweg.tune.run import TuneConfig, Tuned, Watcher, run_tune

__all__ = [
    "Found",
    "Job",
    "Objective",
    "Outcome",
    "Proposal",
    "SearchSpace",
    "Searcher",
    "Slice",
    "Study",
    "Trial",
    "TuneConfig",
    "Tuned",
    "Watcher",
    "When",
    "importance",
    "minimise",
    "named",
    "run_tune",
    "search",
    "slices",
]


def __getattr__(name: str) -> Any:
    # What trains is imported when it is used, so that a searcher from another package can be
    # imported while recipes still are.
    if name in ("TuneConfig", "Tuned", "Watcher", "run_tune"):
        return getattr(importlib.import_module("thalweg.tune.run"), name)
    raise AttributeError(f"module 'thalweg.tune' has no attribute '{name}'")
