"""The training loop: deterministic, resumable, and watched by callbacks.

One function does it::

    from thalweg import train

    result = train.fit("digits", "sgd(lr=0.1, momentum=0.9) + cosine")
"""

import importlib
from typing import TYPE_CHECKING, Any

from thalweg.train.averages import FollowAverages
from thalweg.train.events import Callback
from thalweg.train.fit import fit
from thalweg.train.result import Point, Result
from thalweg.train.run import Run
from thalweg.train.swap import Swap, swap

if TYPE_CHECKING:
    from thalweg.train.dynamics import Dynamics, FollowDynamics
    from thalweg.train.recording import RecordTrajectory

__all__ = [
    "Callback",
    "Dynamics",
    "FollowAverages",
    "FollowDynamics",
    "Point",
    "RecordTrajectory",
    "Result",
    "Run",
    "Swap",
    "fit",
    "swap",
]

# What looks at the landscape needs SciPy, which takes a while to import.
_LATER = {"Dynamics": "dynamics", "FollowDynamics": "dynamics", "RecordTrajectory": "recording"}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(f"thalweg.train.{_LATER[name]}"), name)
    raise AttributeError(f"module 'thalweg.train' has no attribute '{name}'")
