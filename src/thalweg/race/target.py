"""The value of the metric that counts as reached, and where it comes from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from thalweg.race.entrants import BASELINE, Entrant
from thalweg.race.rows import CurvePoint, best_trial
from thalweg.race.store import Store
from thalweg.recipe import Recipe
from thalweg.workload import Workload

SHARE = 0.9
HIDDEN = "(baseline)"


def given_target(target: float | None, workload: Workload) -> dict[str, Any] | None:
    """Return the target if the user or the workload gives one, else None."""
    metric = workload.metric_name
    if target is not None:
        text = f"The target, {metric} {target:.4g}, was given on the command line."
        return {"value": float(target), "source": "user", "text": text}
    if workload.target is not None:
        text = f"The target, {metric} {workload.target:.4g}, is the workload's."
        return {"value": float(workload.target), "source": "workload", "text": text}
    return None


def baseline_of(entrants: Sequence[Entrant]) -> tuple[Entrant, bool]:
    """Return whose best trial sets the target, and whether it has to be run for that alone.

    The first entrant whose recipe is the baseline's, or a hidden entrant.
    """
    wanted = Recipe.parse(BASELINE)
    for entrant in entrants:
        if Recipe.parse(entrant.recipe) == wanted:
            return entrant, False
    return hidden_baseline(), True


def hidden_baseline() -> Entrant:
    """Return the baseline as an entrant that only sets the target."""
    return Entrant(HIDDEN, str(Recipe.parse(BASELINE)))


def reached_by_baseline(store: Store, baseline: Entrant, hidden: bool) -> dict[str, Any]:
    """Return the target that the baseline's trials set.

    It is the best metric that the best trial had on the evaluation grid in the first 90 % of its
    steps: what a tuned plain AdamW can do a little before its time is up.
    """
    workload = store.workload()
    higher, metric = workload["higher_is_better"], workload["metric_name"]
    rows = store.runs("target" if hidden else "tune", baseline.name)
    best = best_trial(rows, higher)
    whose = f"{baseline.recipe} (best of {len(rows)} trials{', not an entrant' if hidden else ''})"
    if best is None:
        text = f"There is no target: no trial of {whose} finished."
        return {"value": None, "source": "none", "text": text}
    curve = store.curve(best.run_id)
    share = SHARE
    value = _best_until(curve, share * best.steps, higher)
    if value is None:  # nothing was evaluated that early
        share = 1.0
        value = _best_until(curve, best.steps, higher)
    text = (
        f"The target, {metric} {value:.4g}, is the best that {whose} reached in the first "
        f"{share:.0%} of its {best.steps} steps."
    )
    return {"value": value, "source": "baseline", "text": text}


def _best_until(curve: Sequence[CurvePoint], step: float, higher: bool) -> float | None:
    metrics = [p.metric for p in curve if p.step <= step and math.isfinite(p.metric)]
    return (max if higher else min)(metrics, default=None)
