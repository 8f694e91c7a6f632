"""From runs to the time that each submission needs on each workload."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from thalweg.core.errors import UsageError
from thalweg.scoring.runs import Run, Runs

TrialRule = Literal["time", "evaluations"]

# The published table of AlgoPerf 0.5 breaks ties between trials by the order in which they were
# read from disk. This order reproduces all of its 143 times, and is one of three that do.
_READ = ("trial_5", "trial_1", "trial_3", "trial_4", "trial_2")
Times = NDArray[np.float64]


@dataclass(frozen=True)
class TimeTable:
    """Seconds to the target.

    Attributes:
        submissions: the rows.
        workloads: the columns.
        values: shape (submissions, workloads); infinity where the target was not met, NaN where
            there is no run.
    """

    submissions: tuple[str, ...]
    workloads: tuple[str, ...]
    values: Times


def study_times(
    runs: Runs, submissions: Sequence[str], workloads: Sequence[str], rule: TrialRule = "time"
) -> list[list[Times]]:
    """Return the time of every study, by submission and workload; an empty array without runs.

    A study's time is that of its best trial: the one with the least time to the target ("time"),
    or the one with the fewest evaluations to it ("evaluations", as AlgoPerf 0.5 was scored; among
    equals the one that its program read first, and of other names the first in the table).
    Infinity if none met it.

    Raises:
        UsageError: the rule is "evaluations" and a run that met its target does not say at which.
    """
    grouped: dict[tuple[str, str], dict[str, list[Run]]] = {}
    for run in runs.rows:
        studies = grouped.setdefault((run.submission, run.workload), {})
        studies.setdefault(run.study, []).append(run)
    return [
        [
            np.array(
                [
                    _study_time(runs.source, trials, rule)
                    for trials in grouped.get((submission, workload), {}).values()
                ]
            )
            for workload in workloads
        ]
        for submission in submissions
    ]


def times_to_target(
    runs: Runs,
    workloads: Sequence[str],
    rule: TrialRule = "time",
    submissions: Sequence[str] | None = None,
) -> TimeTable:
    """Return the median over studies of `study_times`.

    Studies that missed the target take part as infinity; with an even number of studies an
    infinity in the middle pair gives infinity.
    """
    names = tuple(runs.submissions if submissions is None else submissions)
    studies = study_times(runs, names, workloads, rule)
    values = [[median(times) for times in row] for row in studies]
    return TimeTable(names, tuple(workloads), np.array(values).reshape(len(names), len(workloads)))


def median(times: Times) -> float:
    """Return the median, infinity included; NaN of nothing."""
    if len(times) == 0:
        return math.nan
    ordered = np.sort(times)
    low, high = ordered[(len(times) - 1) // 2], ordered[len(times) // 2]
    return float(low if low == high else (low + high) / 2)


def _study_time(source: str, trials: Sequence[Run], rule: TrialRule) -> float:
    hits = [run for run in trials if math.isfinite(run.time_to_target)]
    if not hits:
        return math.inf
    if rule == "time":
        return min(run.time_to_target for run in hits)
    for run in hits:
        if run.evaluations_to_target is None:
            raise UsageError(
                f"{source}: {run.submission} on {run.workload} ({run.study}, {run.trial}) met its "
                "target and eval_index_hit does not say at which evaluation; choose trials by time"
            )
    return min(hits, key=lambda run: (run.evaluations_to_target or 0, _read(run))).time_to_target


def _read(run: Run) -> int:
    return _READ.index(run.trial) if run.trial in _READ else len(_READ)
