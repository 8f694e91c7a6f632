"""The figures of a diagnosis and of a prospect."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.landscape.figures.style import COLOURS, drawing, note

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from thalweg.merge.diagnosis import Diagnosis
    from thalweg.merge.prospects import Prospect


def draw_diagnosis(
    diagnosis: Diagnosis, path: str | os.PathLike[str] | None, layers: int
) -> Figure:
    """Draw layers by what they lose, and the agreement of pairs in each; see `Diagnosis.plot`."""
    shown = diagnosis.conflicting(layers)[::-1]
    places = range(len(shown))
    with drawing((8.4, 1.4 + 0.17 * len(shown)), path) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        left.barh(places, [layer.cancelled for layer in shown], color=COLOURS[1], height=0.7)
        left.set_yticks(places, [layer.name for layer in shown], fontsize=6)
        left.set_xlim(0, 1)
        left.set_xlabel("movement that cancels in the sum")
        for i, (one, other) in enumerate(diagnosis.pairs[: len(COLOURS)]):
            colour = COLOURS[i % len(COLOURS)]
            label = ", ".join(_short((one, other)))
            right.plot([c.cosines[i] for c in shown], places, "o", color=colour, label=label)
            right.plot([c.signs[i] for c in shown], places, "x", color=colour)
        right.axvline(0, color="#888888", linewidth=0.6)
        right.set_xlim(-1.05, 1.05)
        right.set_xlabel("cosine (dot), share of equal signs (cross)")
        figure.legend(*right.get_legend_handles_labels(), loc="outside upper right", ncols=3)
        notes = [f"all layers: {diagnosis.whole.cancelled:.3f} cancels"]
        if len(shown) < len(diagnosis.layers):
            notes.append(f"the {len(shown)} most conflicting of {len(diagnosis.layers)} layers")
        if len(diagnosis.pairs) > len(COLOURS):
            notes.append(f"the first {len(COLOURS)} of {len(diagnosis.pairs)} pairs")
        note(figure, notes)
    return figure


def draw_prospect(prospect: Prospect, path: str | os.PathLike[str] | None) -> Figure:
    """Draw the losses of models and merge, and barriers of pairs; see `Prospect.plot`."""
    models, pairs = _short(prospect.models), [" - ".join(_short(pair)) for pair in prospect.pairs]
    rows = [(prospect.method, prospect.merged, COLOURS[1])]
    rows += [] if math.isnan(prospect.base) else [("base", prospect.base, "#888888")]
    rows += [(name, loss, COLOURS[0]) for name, loss in zip(models, prospect.losses, strict=True)]
    rows.reverse()
    height = 1.3 + 0.24 * max(len(rows), 2 * len(pairs))
    with drawing((8.4, height), path) as figure:
        left, right = figure.subplots(1, 2)
        places = range(len(rows))
        left.barh(places, [loss for _, loss, _ in rows], color=[c for *_, c in rows], height=0.7)
        left.set_yticks(places, [name for name, *_ in rows])
        left.axvline(min(prospect.losses), color="#888888", linewidth=0.6)
        left.set_xlabel("loss (line: the best model)")
        below = [place - 0.2 for place in range(len(pairs))]
        above = [place + 0.2 for place in range(len(pairs))]
        right.barh(above, prospect.before, height=0.36, color=COLOURS[1], label="as they are")
        right.barh(below, prospect.after, height=0.36, color=COLOURS[2], label="units matched")
        right.axvline(0, color="#888888", linewidth=0.6)
        right.set_yticks(range(len(pairs)), pairs)
        right.set_xlabel("barrier: loss above the straight line between two")
        figure.legend(*right.get_legend_handles_labels(), loc="outside upper right", ncols=2)
        better = "below" if prospect.gain >= 0 else "above"
        note(figure, [f"the merge is {abs(prospect.gain):.3g} {better} the best model"])
    return figure


def _short(names: tuple[str, ...]) -> list[str]:
    """Return files' names without folders and suffixes where these still tell them apart."""
    short = [Path(name).stem for name in names]
    return short if len(set(short)) == len(names) else list(names)
