"""The pages of vectors by the sizes of their entries: of sharpness and of samples' gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from thalweg.landscape import Sharpness
from thalweg.landscape.curvature import GradientStatistics
from thalweg.landscape.figures.sizes import spread
from thalweg.report.figure import Figure, Spec, axis, colour, log_range
from thalweg.report.look import colour_name
from thalweg.report.looking.parts import LEGEND, Rows, page_of
from thalweg.report.numbers import integer, number, percent

SHARES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
"""Of entries; the table says how large they are at most."""


def sharpness(result: Sharpness) -> dict[str, Any]:
    """Return the page of a sharpness: the rise, and how the displacement is spread."""
    rows: Rows = [
        ("Loss", number(result.loss, 4)),
        ("Rise", number(result.rise, 4)),
        ("Loss at the worst point", number(result.loss + result.rise, 4)),
        ("Dual norm of the gradient", number(result.gradient_norm, 4)),
        ("Length of the displacement", number(float(result.displacement.double().norm()), 4)),
    ]
    return _page(
        {"displacement": result.displacement},
        "Sharpness",
        f"The loss of {number(result.loss)} rises by {number(result.rise)}",
        "At the worst point that was found in the neighbourhood.",
        rows,
    )


def statistics(result: GradientStatistics) -> dict[str, Any]:
    """Return the page of samples' gradients: noise scale, mean and standard deviation."""
    rows: Rows = [
        ("Noise scale", number(result.noise_scale, 4)),
        ("Samples", integer(result.samples)),
        ("Norm of the mean gradient", number(float(result.mean.double().norm()), 4)),
        ("Trace of the covariance", number(float(result.variance.double().sum()), 4)),
    ]
    return _page(
        {"mean": result.mean, "standard deviation": result.variance.sqrt()},
        "Samples' gradients",
        f"Noise scale {number(result.noise_scale)}",
        "The batch size at which noise and signal of the gradient are equal.",
        rows,
    )


def _page(
    parts: Mapping[str, Tensor], kind: str, headline: str, finding: str, rows: Rows
) -> dict[str, Any]:
    found = {name: spread(x, 600) for name, x in parts.items()}
    data: list[Spec] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x": one.sizes.tolist(),
            "y": one.shares.tolist(),
            "customdata": [number(size) for size in one.sizes.tolist()],
            "hovertemplate": f"{name}: %{{y:.1%}} of entries are at most <b>%{{customdata}}</b>"
            "<extra></extra>",
            "line": {"color": colour(colour_name(place)), "width": 2.4},
            "showlegend": len(found) > 1,
        }
        for place, (name, one) in enumerate(found.items())
    ]
    sizes = [size for one in found.values() for size in one.sizes.tolist()]
    log = {"type": "log", "range": log_range(sizes)} if sizes else {}
    notes = [f"{name}: {text}" for name, one in found.items() if (text := one.left_out)]
    figure = Figure(
        id="sizes",
        title="",
        data=data,
        layout={
            "xaxis": axis("magnitude of an entry (log scale)", **log),
            "yaxis": axis("share of entries up to it", range=[0, 1.02], tickformat=".0%"),
            "hovermode": "closest",
            "showlegend": len(found) > 1,
            "legend": LEGEND,
        },
        height=420,
        note="; ".join(notes),
    )
    body = [
        [percent(share), *(number(one.at(share), 4) for one in found.values())] for share in SHARES
    ]
    table = (["share of entries", *(f"{name}, at most" for name in found)], body)
    return page_of(kind, headline, finding, figure, rows, table)
