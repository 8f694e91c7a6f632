"""Scoring tables of runs, from this library's races or anyone's logs, as pure functions.

`read_runs` and `read_suite` check and read files; `times_to_target` makes a table of submissions
by workloads; `profile` scores it by AlgoPerf's rules; `uncertainty`, `ranking` and `nash` say what
else can be said of it.
"""

from thalweg.scoring.profile import (
    GRID,
    exact_score,
    grid_score,
    performance_profile,
    ratios,
    standing_times,
)
from thalweg.scoring.runs import Runs, read_runs
from thalweg.scoring.suite import Suite, read_suite
from thalweg.scoring.times import TimeTable, study_times, times_to_target

__all__ = [
    "GRID",
    "Runs",
    "Suite",
    "TimeTable",
    "exact_score",
    "grid_score",
    "performance_profile",
    "ratios",
    "read_runs",
    "read_suite",
    "standing_times",
    "study_times",
    "times_to_target",
]
