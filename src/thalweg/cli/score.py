"""``thalweg score``."""

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from thalweg.cli.console import console, error_console


class Ruleset(StrEnum):
    """How submissions were tuned."""

    external = "external"
    self = "self"


class TrialRule(StrEnum):
    """By what a study's best trial is chosen."""

    time = "time"
    evaluations = "evaluations"


def score(
    runs: Annotated[
        list[Path],
        typer.Argument(help="A CSV with a row for each trial, or the folders of finished races."),
    ],
    workloads: Annotated[
        Path | None,
        typer.Option(help="JSON with the workloads and their targets; races have their own."),
    ] = None,
    ruleset: Annotated[
        Ruleset, typer.Option(help="Trials in studies, or one self-tuning run a study.")
    ] = Ruleset.external,
    trial_rule: Annotated[
        TrialRule,
        typer.Option(
            help="A study's best trial: least time, or fewest evaluations (AlgoPerf 0.5)."
        ),
    ] = TrialRule.time,
    out: Annotated[Path, typer.Option(help="Folder for the report and the tables.")] = Path(
        "scores"
    ),
) -> None:
    """Score anyone's runs by AlgoPerf's rules, with the uncertainty that studies leave.

    Writes report.html, scores.csv, profiles.csv, times.csv, leave_one_out.csv, ratings.csv and
    speed_ups.csv; for races also improvements.csv: how probably one entrant beats another, over
    all workloads, and whether the data tell the two apart.
    """
    from thalweg.core.errors import UsageError
    from thalweg.core.files import check_folder
    from thalweg.race.many import read_races, write_improvements
    from thalweg.report.scores import write_score_report
    from thalweg.scoring import read_runs, read_suite
    from thalweg.scoring.tables import score as score_runs
    from thalweg.scoring.tables import write

    check_folder(out)
    races = None
    if all(path.is_dir() for path in runs):
        if workloads is not None:
            raise UsageError("races know their workloads and targets; leave --workloads out")
        races = read_races(runs)
        table_of_runs, suite = races.runs, races.suite
    elif len(runs) > 1:
        raise UsageError(
            f"score one CSV, or folders of races; found {', '.join(str(path) for path in runs)}"
        )
    elif workloads is None:
        raise UsageError("a CSV of runs needs --workloads: a JSON with the workloads and targets")
    else:
        table_of_runs, suite = read_runs(runs[0], ruleset.value), read_suite(workloads)
    scoring = score_runs(table_of_runs, suite, ruleset.value, trial_rule.value)
    write(scoring, out)
    if races is not None:
        write_improvements(races, out)
    words = ["thalweg", "score", *map(str, runs)]
    if workloads is not None:
        words += ["--workloads", str(workloads), "--ruleset", ruleset.value]
    words += ["--trial-rule", trial_rule.value, "--out", "my-scores"]
    page = write_score_report(scoring, out, races, shlex.join(words))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("rank", "submission", "score", "95 %", "ranks", "first"):
        table.add_column(column, justify="left" if column == "submission" else "right")
    found, ranks = scoring.uncertainty, scoring.ranks
    for i in scoring.order:
        table.add_row(
            f"{ranks[i]:.0f}",
            scoring.times.submissions[i],
            f"{scoring.score[i]:.4f}",
            f"{found.score_low[i]:.3f} to {found.score_high[i]:.3f}",
            f"{found.rank_low[i]:.0f} to {found.rank_high[i]:.0f}",
            f"{found.first[i]:.0%}",
        )
    console().print(table)
    for note in (*scoring.notes, *(races.notes if races else ())):
        error_console().print(f"note: {note}", soft_wrap=True)
    console().print(f"tables: {out}\nreport: {page}", soft_wrap=True)
