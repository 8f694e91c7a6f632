"""How the race was run and judged: seeds, versions, machine, definitions."""

import shlex
from statistics import mean
from typing import Any

from thalweg.race.ruleset import ruleset
from thalweg.race.search import QUASI_RANDOM
from thalweg.race.standings import METHOD
from thalweg.report import look
from thalweg.report.facts import Entrant, Race
from thalweg.report.numbers import NONE, integer, number, size

GLOSSARY = (
    ("Recipe", "A training algorithm in one line: a rule, and what is around and along it."),
    (
        "Trial",
        "A whole run with one set of hyper-parameters. All entrants get the same budget of them, "
        "proposed by one searcher, and see the same data in the same order. Quasi-random points "
        "are the default; only with them are the ranges widened for everyone if a best learning "
        "rate lies at an edge.",
    ),
    ("Final run", "The best trial again, under a fresh seed. Only final runs are ranked."),
    (
        "Interval",
        "Where the mean over seeds lies when seeds are drawn again (95 % bootstrap). With few "
        "seeds it is too narrow, so it is shown and does not decide.",
    ),
    (
        "Probability of improvement",
        "How often a run of one entrant beats a run of another, over all pairs of their final "
        "runs; half a win for equal ones. 0.5 is a coin toss.",
    ),
    ("Tie", "Two entrants that the data do not tell apart. It does not say that they are equal."),
    (
        "Given up",
        "A trial that was worse, at some evaluation after the first quarter, than the best trial "
        "so far of every entrant was there. Only if asked for, and by one bar for all.",
    ),
    ("Diverged", "The loss or the metric became infinite or not a number; the run stopped there."),
    (
        "Steps and time to target",
        "The first evaluation that meets the target; the median over final runs, where a run that "
        "never met it counts as infinite. Time is training only: data, forward, backward, update.",
    ),
    ("Peak memory", "Of one training step: weights, gradients, state, batch and activations."),
    ("State", "What the optimiser and the averages keep between steps."),
    (
        "Barrier",
        "How far the loss on the straight way between two solutions rises above the straight line "
        "between their losses.",
    ),
    (
        "Batch-norm policy",
        "Weights between two solutions have no running statistics of their own. “Recalibrate” "
        "computes them from data at each point; without it barriers appear that are not there.",
    ),
)


def build(race: Race) -> dict[str, Any]:
    """Return the notes on the method."""
    return {
        "command": _command(race),
        "seeds": _seeds(race),
        "versions": _versions(race),
        "machine": _machine(race),
        "data": _data(race),
        "target": race.verdict.target_text,
        "method": METHOD,
        "contention": race.verdict.contention,
        "ends": [_end(entrant, race) for entrant in race.ranking if entrant.finished],
        "ends_note": _ends_note(race),
        "glossary": GLOSSARY,
    }


def _command(race: Race) -> str:
    config = race.config
    words = ["thalweg", "race", str(config["workload"])]
    for entrant in race.entrants:
        named = entrant.name != entrant.recipe
        words += ["--entrant", f"{entrant.name}={entrant.recipe}" if named else entrant.recipe]
    rules = config.get("ruleset", "budget")
    if rules != "budget":
        words += ["--ruleset", rules]
    if config.get("budget_seconds"):
        words += ["--budget", f"{config['budget_seconds']:g}s"]
    elif rules != "self":
        words += ["--trials", str(config["trials"])]
    if config.get("searcher", QUASI_RANDOM) != QUASI_RANDOM:
        words += ["--searcher", config["searcher"]]
    if config.get("prune"):
        words.append("--prune")
    most = f"..{config['seeds_most']}" if config.get("seeds_most") else ""
    words += ["--seeds", f"{config['seeds']}{most}"]
    # Runs of the ruleset self are longer than what was asked for.
    steps = config["steps"] // ruleset(rules).factor
    options = {"steps": steps, "evaluate-every": config["evaluate_every"], "seed": config["seed"]}
    options["target"] = config["target"]
    options["precision"] = None if config["precision"] == "float32" else config["precision"]
    for option, value in options.items():
        if value is not None:
            words += [f"--{option}", str(value)]
    return shlex.join([*words, "--out", "my-race"])


def _seeds(race: Race) -> list[tuple[str, str]]:
    tune = sorted({row.seed for e in race.entrants for row in e.trials})
    final = sorted({row.seed for e in race.entrants for row in e.finals})
    return [
        ("Race", str(race.config["seed"])),
        ("Trials", ", ".join(map(str, tune)) or NONE),
        ("Final runs", ", ".join(map(str, final)) or NONE),
    ]


def _versions(race: Race) -> list[tuple[str, str]]:
    names = (("thalweg", "Thalweg"), ("torch", "PyTorch"), ("python", "Python"))
    known = {**race.machine, **race.config}
    return [(name, str(known[key])) for key, name in names if known.get(key)]


def _machine(race: Race) -> list[tuple[str, str]]:
    machine = race.machine
    rows = [
        ("Processor", machine.get("cpu")),
        ("Cores, threads", f"{machine.get('cores', NONE)}, {machine.get('threads', NONE)}"),
        ("Accelerator", machine.get("accelerator")),
        ("Memory", size(machine["memory_bytes"]) if machine.get("memory_bytes") else None),
        ("System", machine.get("os")),
        ("Precision", race.config["precision"]),
        ("Load before the race", _load(machine.get("load_before"))),
    ]
    return [(name, str(value)) for name, value in rows if value]


def _load(value: float | None) -> str | None:
    return None if value is None else number(value, 2)


def _data(race: Race) -> list[tuple[str, str]]:
    workload = race.workload
    rows = [
        ("Task", workload.get("description")),
        ("Model", workload.get("architecture")),
        ("Loss", workload.get("loss_name")),
        ("Batch", f"{integer(workload.get('batch_size'))} samples"),
        ("Source", workload.get("data_source")),
        ("Licence", workload.get("licence")),
    ]
    return [(name, value) for name, value in rows if value]


def _end(entrant: Entrant, race: Race) -> dict[str, Any]:
    best = [row.best_metric for row in entrant.finished if row.best_metric is not None]
    return {
        "label": entrant.label,
        "swatch": look.swatch(entrant.index),
        "last": race.metric(entrant.standing.mean),
        "best": race.metric(mean(best)) if best else NONE,
    }


def _ends_note(race: Race) -> str:
    """Return a sentence if the best value along the way would rank another entrant first."""
    scored = [
        (mean(best), entrant)
        for entrant in race.ranking
        if (best := [r.best_metric for r in entrant.finished if r.best_metric is not None])
    ]
    if len(scored) < 2:
        return ""
    pick = max if race.higher_is_better else min
    leader = pick(scored, key=lambda one: one[0])[1]
    if leader is race.ranking[0]:
        return "By the best value along the way the same entrant would come first."
    return f"By the best value along the way {leader.label} would come first."
