"""The training loop: deterministic, resumable, and watched by callbacks.

One function does it::

    from thalweg import train

    result = train.fit("digits", "sgd(lr=0.1, momentum=0.9) + cosine")
"""

from thalweg.train.averages import FollowAverages
from thalweg.train.dynamics import Dynamics, FollowDynamics
from thalweg.train.events import Callback
from thalweg.train.fit import fit
from thalweg.train.recording import RecordTrajectory
from thalweg.train.result import Point, Result
from thalweg.train.run import Run
from thalweg.train.swap import Swap, swap

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
