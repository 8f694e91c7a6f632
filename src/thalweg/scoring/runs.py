"""Tables of runs: one row a trial, with when it met its target."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from thalweg.core.errors import UsageError, did_you_mean

COLUMNS = (
    *("version", "ruleset", "submission", "framework", "workload", "study", "trial"),
    *("metric", "minimise", "target", "n_evals", "best", "eval_index_hit", "time_to_target"),
    *("step_to_target", "last_time", "last_step"),
)
"""The columns that are known."""

NEEDED = ("submission", "workload", "study", "trial", "time_to_target")
"""The columns without which nothing can be scored."""


@dataclass(frozen=True)
class Run:
    """One trial.

    Attributes:
        submission: whose.
        workload: on what.
        study: the study that it belongs to.
        trial: its name within the study.
        time_to_target: seconds to the first evaluation that met the target, infinity if none did.
        evaluations_to_target: index of that evaluation, None if it was not recorded.
        target: the target that it was judged by, None if it was not recorded.
    """

    submission: str
    workload: str
    study: str
    trial: str
    time_to_target: float
    evaluations_to_target: int | None = None
    target: float | None = None


@dataclass(frozen=True)
class Runs:
    """A table of runs, in the order of the file.

    Attributes:
        rows: the runs.
        source: what to call the table in messages.
    """

    rows: tuple[Run, ...]
    source: str = "the table of runs"

    @property
    def submissions(self) -> tuple[str, ...]:
        """Return who took part, in order of appearance."""
        return tuple(dict.fromkeys(run.submission for run in self.rows))

    @property
    def workloads(self) -> tuple[str, ...]:
        """Return on what, in order of appearance."""
        return tuple(dict.fromkeys(run.workload for run in self.rows))


def read_runs(path: str | Path, ruleset: str = "external") -> Runs:
    """Read a table of runs from CSV.

    The columns are those of the public AlgoPerf logs as a table (`COLUMNS`); `NEEDED` ones must be
    there. An empty ``time_to_target`` is a target never met. Where there is a column ``ruleset``,
    the rows of the asked one are taken.

    Args:
        path: the file.
        ruleset: "external" or "self".

    Raises:
        UsageError: no such file, missing or unknown columns, a cell that is no number, a time that
            is NaN or negative, an unknown direction of the metric, one run twice, runs of several
            versions, no run at all; the message names the line.
    """
    path = Path(path)
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            _check_columns(path, reader.fieldnames)
            lines = [
                (reader.line_num, line)
                for line in reader
                if (line.get("ruleset") or ruleset).startswith(ruleset)
            ]
    except OSError as error:
        raise UsageError(f"cannot read the runs {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} is not a CSV file: {error}") from error
    if not lines:
        raise UsageError(f"{path} holds no run of the ruleset {ruleset}")
    versions = sorted({line.get("version") or "" for _, line in lines})
    if len(versions) > 1:
        raise UsageError(
            f"{path} holds runs of the versions {', '.join(versions)}, whose targets differ; "
            "score each in a file of its own"
        )
    return Runs(tuple(_once(path, [(n, _run(path, n, line)) for n, line in lines])), str(path))


def _check_columns(path: Path, found: object) -> None:
    names = list(found) if isinstance(found, list | tuple) else []
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise UsageError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(names) or 'none'}"
        )
    for name in names:
        if name not in COLUMNS:
            raise UsageError(
                f'{path} has an unknown column "{name}".{did_you_mean(str(name), COLUMNS)} '
                f"Known are {', '.join(COLUMNS)}"
            )
    if len(set(names)) < len(names):
        raise UsageError(f"{path} has a column twice: {', '.join(names)}")


def _run(path: Path, number: int, line: dict[str, str | None]) -> Run:
    where = f"{path}, line {number}"
    for name in ("submission", "workload", "study", "trial"):
        if not line[name]:
            raise UsageError(f"{where}: {name} is empty")
    direction = line.get("minimise")
    if direction not in (None, "0", "1"):
        raise UsageError(
            f"{where}: minimise must be 1 (lower is better) or 0 (higher is), found {direction!r}"
        )
    time = _number(where, "time_to_target", line["time_to_target"])
    if time is not None and (math.isnan(time) or time < 0):
        raise UsageError(
            f"{where}: time_to_target must be a time in seconds, or empty if the target was never "
            f"met; found {line['time_to_target']!r}"
        )
    hit = _number(where, "eval_index_hit", line.get("eval_index_hit"))
    return Run(
        submission=str(line["submission"]),
        workload=str(line["workload"]),
        study=str(line["study"]),
        trial=str(line["trial"]),
        time_to_target=math.inf if time is None else time,
        evaluations_to_target=None if hit is None or not math.isfinite(hit) else int(hit),
        target=_number(where, "target", line.get("target")),
    )


def _number(where: str, name: str, text: str | None) -> float | None:
    if text is None or not text.strip():
        return None
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{where}: {name} must be a number, found {text!r}") from error


def _once(path: Path, runs: list[tuple[int, Run]]) -> Iterator[Run]:
    seen: dict[tuple[str, ...], int] = {}
    for number, run in runs:
        key = (run.submission, run.workload, run.study, run.trial)
        if key in seen:
            raise UsageError(
                f"{path}: lines {seen[key]} and {number} are the same run: "
                f"{run.submission} on {run.workload}, {run.study}, {run.trial}"
            )
        seen[key] = number
        yield run
