"""What the landscape does under runs: losses, and sharpness against where a rule is unstable."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.core.errors import UsageError
from thalweg.landscape.figures.style import COLOURS, drawing, note

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_dynamics(runs: Mapping[str, Any], path: str | os.PathLike[str] | None = None) -> Figure:
    """Draw the losses of runs, and what decides on their stability beside its threshold.

    Args:
        runs: `thalweg.train.Dynamics` by the runs' names.
        path: a file to write, in ``.svg``, ``.pdf`` or ``.png``.

    Raises:
        UsageError: no run, or one without a measurement; or as `Grid.plot`.
    """
    for name, run in runs.items():
        if not len(run.step):
            raise UsageError(f'nothing was measured of "{name}": it was too short')
    if not runs:
        raise UsageError("nothing to draw: pass what was measured by the runs' names")
    with drawing((8.4, 3.0), path) as figure:
        left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
        for (name, run), colour in zip(runs.items(), COLOURS * len(runs), strict=False):
            left.plot(run.step, run.loss, color=colour, label=name)
            right.plot(run.step, run.stability, color=colour, label=name, marker=".", markersize=3)
            right.plot(run.step, run.threshold, color=colour, linestyle="--", linewidth=1)
        if all(bool((run.loss > 0).all()) for run in runs.values()):
            left.set_yscale("log")
        left.set_ylabel("loss (log scale)" if left.get_yscale() == "log" else "loss")
        measured = {run.measured for run in runs.values()}
        plain = measured == {"hessian"}
        right.set_ylabel(
            "sharpness" if plain else "largest eigenvalue of the preconditioned Hessian"
        )
        right.set_ylim(bottom=min(0.0, *(float(np.nanmin(r.stability)) for r in runs.values())))
        for axes in (left, right):
            axes.set_xlabel("step")
        if len(runs) > 1:
            left.legend()
        known = any(bool(np.isfinite(run.threshold).any()) for run in runs.values())
        note(figure, ["dashed: where the rule becomes unstable"] if known else [])
    return figure
