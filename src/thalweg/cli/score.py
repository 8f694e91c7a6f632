"""``thalweg score``."""

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
    runs: Annotated[Path, typer.Argument(help="CSV with a row for each trial.")],
    workloads: Annotated[Path, typer.Option(help="JSON with the workloads and their targets.")],
    ruleset: Annotated[
        Ruleset, typer.Option(help="Trials in studies, or one self-tuning run a study.")
    ] = Ruleset.external,
    trial_rule: Annotated[
        TrialRule,
        typer.Option(
            help="A study's best trial: least time, or fewest evaluations (AlgoPerf 0.5)."
        ),
    ] = TrialRule.time,
    out: Annotated[Path, typer.Option(help="Folder for the tables.")] = Path("scores"),
) -> None:
    """Score anyone's runs by AlgoPerf's rules, with the uncertainty that studies leave.

    Writes scores.csv, profiles.csv, times.csv, leave_one_out.csv, ratings.csv and speed_ups.csv.
    """
    from thalweg.core.files import check_folder
    from thalweg.scoring import read_runs, read_suite
    from thalweg.scoring.tables import score as score_runs
    from thalweg.scoring.tables import write

    check_folder(out)
    suite = read_suite(workloads)
    scoring = score_runs(read_runs(runs, ruleset.value), suite, ruleset.value, trial_rule.value)
    write(scoring, out)
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
    for note in scoring.notes:
        error_console().print(f"note: {note}", soft_wrap=True)
    console().print(f"tables: {out}", soft_wrap=True)
