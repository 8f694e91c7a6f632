"""All that is said of a table of runs, as files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.core.errors import UsageError
from thalweg.core.files import check_folder, make_folder, write_atomically
from thalweg.scoring.nash import agents_against_agents, agents_against_tasks
from thalweg.scoring.profile import (
    CUT_OFF,
    GRID,
    exact_score,
    grid_score,
    performance_profile,
    ratios,
    speed_up,
    standing_times,
)
from thalweg.scoring.ranking import borda, mean_rank, win_margins
from thalweg.scoring.runs import Runs
from thalweg.scoring.suite import Suite
from thalweg.scoring.times import TimeTable, TrialRule, median, study_times
from thalweg.scoring.uncertainty import Uncertainty, over_studies, ranked

RULESETS = ("external", "self")
BUDGET_FACTORS = {"external": 1.0, "self": 3.0}  # of AlgoPerf 0.5
SEED = 0

Array = NDArray[np.float64]
Rows = tuple[Sequence[str], list[Sequence[Any]]]


@dataclass(frozen=True)
class Scoring:
    """Scores of a table of runs; arrays go along `submissions`.

    Attributes:
        suite: the benchmark.
        times: the medians over studies on base workloads and variants, as they are.
        standing: what is left of them on the base workloads after AlgoPerf's rules.
        score: by AlgoPerf's grid.
        exact: by the exact integral.
        uncertainty: over resampled studies.
        studies: how many there are on base workloads and variants, shape as ``times.values``.
        budgets: allowed seconds on the base workloads; NaN where they are unknown.
        ruleset: by which the submissions were tuned.
        trial_rule: by what a study's best trial was chosen.
        notes: what is to be known about the table.
    """

    suite: Suite
    times: TimeTable
    standing: Array
    score: Array
    exact: Array
    uncertainty: Uncertainty
    studies: NDArray[np.int64]
    budgets: Array
    ruleset: str
    trial_rule: TrialRule
    notes: tuple[str, ...]

    @property
    def order(self) -> list[int]:
        """Return the submissions from the best to the worst."""
        return sorted(range(len(self.score)), key=lambda i: (-self.score[i], -self.exact[i]))

    @property
    def ranks(self) -> Array:
        """Return 1 + how many scored higher."""
        return ranked(self.score)

    @cached_property
    def tables(self) -> dict[str, Rows]:
        """Return every table by name, its head and its rows."""
        made = (_scores, _profiles, _times, _leave_one_out, _ratings, _speed_ups)
        return {table.__name__[1:]: table(self) for table in made}


def score(
    runs: Runs, suite: Suite, ruleset: str = "external", trial_rule: TrialRule = "time"
) -> Scoring:
    """Score a table of runs by AlgoPerf's rules.

    Raises:
        UsageError: a study of the self-tuning ruleset has more than one trial, or what
            `study_times` says.
    """
    if ruleset == "self":
        _check_self_tuning(runs)
    names, workloads = runs.submissions, suite.workloads
    studies = study_times(runs, names, workloads, trial_rule)
    values = np.array([[median(one) for one in row] for row in studies])
    times = TimeTable(names, workloads, values.reshape(len(names), len(workloads)))
    standing = standing_times(times.values, workloads, suite.base, suite.variants)
    relative = ratios(standing)
    allowed = np.array([suite.budgets.get(name, np.nan) for name in suite.base])
    rng = np.random.default_rng(SEED)
    return Scoring(
        suite,
        times,
        standing,
        grid_score(relative),
        exact_score(relative),
        over_studies(studies, workloads, suite, rng),
        np.array([[len(one) for one in row] for row in studies]),
        BUDGET_FACTORS[ruleset] * allowed,
        ruleset,
        trial_rule,
        tuple(_notes(runs, suite, times)),
    )


def write(scoring: Scoring, folder: Path) -> list[Path]:
    """Write scores, profiles, times, leave_one_out, ratings and speed_ups, each a CSV.

    Raises:
        UsageError: the folder cannot be written to.
    """
    check_folder(folder)
    make_folder(folder)
    return [_write(folder / f"{name}.csv", rows) for name, rows in scoring.tables.items()]


def _check_self_tuning(runs: Runs) -> None:
    seen: dict[tuple[str, str, str], str] = {}
    for run in runs.rows:
        study = (run.submission, run.workload, run.study)
        if study in seen:
            raise UsageError(
                f"{runs.source}: a study of the self-tuning ruleset is one run, and "
                f"{', '.join(study)} has {seen[study]} and {run.trial}; external tuning has trials"
            )
        seen[study] = run.trial


def _notes(runs: Runs, suite: Suite, times: TimeTable) -> Iterable[str]:
    for run in runs.rows:
        target = suite.targets.get(run.workload)
        if run.target is not None and target is not None and run.target != target:
            yield (
                f"{run.workload} was judged by the target {run.target:g} in the runs and has "
                f"{target:g} in the list of workloads; the runs' is what their times belong to"
            )
            break
    strangers = [name for name in runs.workloads if name not in suite.targets]
    if strangers:
        yield f"not in the list of workloads, and left out: {', '.join(strangers)}"
    for j, name in enumerate(times.workloads):
        column = times.values[:, j]
        if np.isnan(column).all():
            yield f"nobody has a run on {name}, which counts as not solved"
        elif not np.isfinite(column).any():
            yield f"nobody met the target of {name}"


def _scores(scoring: Scoring) -> Rows:
    found, ranks = scoring.uncertainty, scoring.ranks
    head = ("submission", "score", "score_exact", "score_low", "score_high")
    head += ("rank", "rank_low", "rank_high", "share_first")
    return head, [
        (
            scoring.times.submissions[i],
            scoring.score[i],
            scoring.exact[i],
            found.score_low[i],
            found.score_high[i],
            int(ranks[i]),
            int(found.rank_low[i]),
            int(found.rank_high[i]),
            found.first[i],
        )
        for i in scoring.order
    ]


def _profiles(scoring: Scoring) -> Rows:
    taus = np.linspace(1.0, CUT_OFF, GRID)
    profile = performance_profile(ratios(scoring.standing), taus)
    return ("submission", "tau", "rho"), [
        (scoring.times.submissions[i], tau, rho)
        for i in scoring.order
        for tau, rho in zip(taus, profile[i], strict=True)
    ]


def _times(scoring: Scoring) -> Rows:
    table = scoring.times
    columns = sorted(range(len(table.workloads)), key=lambda j: table.workloads[j])
    return ("submission", *(table.workloads[j] for j in columns)), [
        (name, *("" if np.isnan(row[j]) else row[j] for j in columns))
        for name, row in zip(table.submissions, table.values, strict=True)
    ]


def _leave_one_out(scoring: Scoring) -> Rows:
    """Scores without one base workload (and its variants), and without one submission."""
    suite, table = scoring.suite, scoring.times
    rows: list[Sequence[Any]] = []

    def add(kind: str, left_out: str, kept: Sequence[int], base: Sequence[str]) -> None:
        variants = {name: of for name, of in suite.variants.items() if of in base}
        columns = [j for j, name in enumerate(table.workloads) if name in (*base, *variants)]
        names = [table.workloads[j] for j in columns]
        times = table.values[np.ix_(kept, columns)]
        relative = ratios(standing_times(times, names, base, variants))
        scores, exact = grid_score(relative), exact_score(relative)
        ranks = ranked(scores)
        for place, i in enumerate(kept):
            who = (table.submissions[i], scores[place], exact[place], int(ranks[place]))
            rows.append((kind, left_out, *who))

    everyone = scoring.order
    if len(suite.base) > 1:
        for workload in suite.base:
            add("workload", workload, everyone, [one for one in suite.base if one != workload])
    if len(everyone) > 1:
        for i in everyone:
            kept = [one for one in everyone if one != i]
            add("submission", table.submissions[i], kept, suite.base)
    return ("kind", "left_out", "submission", "score", "score_exact", "rank"), rows


def _ratings(scoring: Scoring) -> Rows:
    standing = scoring.standing
    duel = agents_against_agents(win_margins(standing))
    shares = np.clip((CUT_OFF - ratios(standing)) / (CUT_OFF - 1), 0.0, None)
    game = agents_against_tasks(shares)
    ranks, counts = mean_rank(standing), borda(standing)
    head = ("submission", "nash_rating", "nash_weight", "nash_task_rating", "nash_task_weight")
    head += ("borda", "mean_rank")
    return head, [
        (
            scoring.times.submissions[i],
            duel.ratings[i],
            duel.weights[i],
            game.agent_ratings[i],
            game.agent_weights[i],
            counts[i],
            ranks[i],
        )
        for i in scoring.order
    ]


def _speed_ups(scoring: Scoring) -> Rows:
    """How much faster each submission is than each other: 1 less the mean ratio of times.

    On the base workloads; empty where a time, or the budget that a miss counts as, is unknown.
    """
    names, table = scoring.times.submissions, scoring.times
    columns = [table.workloads.index(name) for name in scoring.suite.base]
    times = table.values[:, columns]
    rows: list[Sequence[Any]] = []
    for i in scoring.order:
        for j in scoring.order:
            if i != j:
                ratio = speed_up(times[i], times[j], scoring.budgets)
                cells = ("", "") if np.isnan(ratio) else (ratio, 1 - ratio)
                rows.append((names[i], names[j], *cells))
    return ("submission", "reference", "time_ratio", "speed_up"), rows


def _write(path: Path, rows: Rows) -> Path:
    head, body = rows
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([[_cell(value) for value in row] for row in body])
    write_atomically(path, text.getvalue())
    return path


def _cell(value: Any) -> Any:
    """Return floats so that reading them gives the same number again."""
    return repr(float(value)) if isinstance(value, float | np.floating) else value
