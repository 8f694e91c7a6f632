"""The figure of a diagnosis."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from thalweg.landscape.figures.style import COLOURS, drawing, note

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from thalweg.merge.diagnosis import Diagnosis


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
            label = f"{one}, {other}"
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
