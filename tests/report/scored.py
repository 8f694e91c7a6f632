"""Races and tables of runs that pages of scores are made of."""

import json
import math

from synthetic_race import make_store
from typer.testing import CliRunner

from thalweg.cli.application import app

HOSTILE = '<b>&"'
ENTRANTS = {
    "good": {"level": 0.97, "noise": 0.001, "speed": 3.0},
    HOSTILE: {"level": 0.9, "noise": 0.001},
    "a name that is long " * 3: {"level": 0.5, "noise": 0.001, "broken": ["diverged"]},
}


def score(*words):
    """Run the command; return its output."""
    found = CliRunner().invoke(app, ["score", *map(str, words)])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.output


def make_races(folder, count=3, entrants=ENTRANTS, targets=(0.85, 0.85, 2.0)):
    """Write races that are finished; the third has a target that nobody reaches."""
    folders = []
    for i in range(count):
        made = folder / f"race {i}"
        with make_store(
            made, entrants, workload=f"task-{i}", seeds=6, trials=2, target=targets[i], seed=i
        ):
            folders.append(made)
    return folders


def write_table(folder, times, budget=100):
    """Write a table of runs and its workloads from times by submission, workload and study.

    Infinity is a target not met; None no run.
    """
    lines = ["submission,workload,study,trial,time_to_target"]
    workloads = dict.fromkeys(name for by_name in times.values() for name in by_name)
    for who, by_name in times.items():
        for name, studies in by_name.items():
            lines += [
                f'"{who.replace(chr(34), chr(34) * 2)}",{name},s{i},t,'
                f"{'' if math.isinf(time) else time}"
                for i, time in enumerate(studies or ())
            ]
    runs, targets = folder / "runs.csv", folder / "targets.json"
    runs.write_text("\n".join(lines) + "\n")
    facts = {"validation_target_value": 0.5, "max_allowed_runtime_sec": budget}
    known = {"base_workloads": list(workloads), "workloads": dict.fromkeys(workloads, facts)}
    targets.write_text(json.dumps(known))
    return runs, "--workloads", targets
