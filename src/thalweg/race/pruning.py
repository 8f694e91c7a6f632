"""When a tuning trial is given up: by a bar that all entrants share."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg import train
from thalweg.race.rows import CurvePoint, best_trial
from thalweg.race.store import Store

GRACE = 0.25
"""In this first part of a run no trial is given up."""


def bar(store: Store, trial: int) -> dict[int, float]:
    """Return the metric that a trial must not fall behind, by step.

    At each step that is the worst, over entrants, of what the best trial of an entrant had there,
    among the trials of the rounds before this one. It is the same for every entrant of a round,
    whatever the order in which they run, and an entrant is never given up for being slower than
    others: its own best trial is among those that set the bar. An entrant without a finished trial
    sets none, and `thalweg.race.stages` holds it to none. Empty in the first round.

    Args:
        store: the race.
        trial: the trial's number.
    """
    higher = store.workload()["higher_is_better"]
    best = []
    for entrant in store.config()["entrants"]:
        rows = [row for row in store.runs("tune", entrant["name"]) if row.trial < trial]
        chosen = best_trial(rows, higher)
        if chosen is not None:
            best.append({point.step: point.metric for point in store.curve(chosen.run_id)})
    shared = set.intersection(*map(set, best)) if best else set()
    return {step: (min if higher else max)(one[step] for one in best) for step in sorted(shared)}


class Pruner(train.Callback):
    """Ends a run that falls behind the bar.

    Args:
        bar: pairs of a step and the metric there; without any, no run is ended.
        higher_is_better: the metric's direction.

    Attributes:
        reason: why the run was given up, or None.
    """

    def __init__(self, bar: Sequence[Sequence[float]], higher_is_better: bool) -> None:
        self._bar = {int(step): metric for step, metric in bar}
        self._higher = higher_is_better
        self.reason: str | None = None

    def on_evaluate(self, run: train.Run, point: CurvePoint) -> None:
        """Compare an evaluation with the bar."""
        wanted = self._bar.get(point.step)
        steps = run.settings.steps
        if wanted is None or not GRACE * steps <= point.step < steps:
            return
        behind = point.metric < wanted if self._higher else point.metric > wanted
        if behind:
            self.reason = (
                f"given up at step {point.step}, at {point.metric:.4g}: the best trials of all "
                f"entrants were at {wanted:.4g} or better by then"
            )
            raise GivenUpError


class GivenUpError(Exception):
    """The run fell behind the bar."""
