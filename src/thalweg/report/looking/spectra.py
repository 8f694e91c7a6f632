"""The pages of spectral densities and of single eigenvalues."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from thalweg.landscape.curvature import Eigenpairs, SpectralDensity
from thalweg.report.figure import Figure, Spec, axis, colour
from thalweg.report.look import colour_name
from thalweg.report.looking.parts import Rows, page_of
from thalweg.report.numbers import integer, number


def density(result: SpectralDensity) -> dict[str, Any]:
    """Return the page of a spectral density."""
    x, values, errors = (part.numpy() for part in result.curve(points=1500))
    top = float(values.max())
    floor = max(top * 1e-7, 1e-300)
    probes = len(result.nodes)
    shown = np.maximum(values, floor)
    data: list[Spec] = []
    if probes > 1:
        low, high = (np.maximum(values + side * 2 * errors, floor) for side in (-1, 1))
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [*x.tolist(), *x[::-1].tolist()],
                "y": [*high.tolist(), *low[::-1].tolist()],
                "fill": "toself",
                "fillcolor": colour(colour_name(0), 0.2),
                "line": {"width": 0, "color": colour(colour_name(0), 0.2)},
                "hoverinfo": "skip",
            }
        )
    data.append(
        {
            "type": "scatter",
            "mode": "lines",
            "x": x.tolist(),
            "y": shown.tolist(),
            "customdata": [number(v) for v in values.tolist()],
            "hovertemplate": "density <b>%{customdata}</b> at %{x:.4g}<extra></extra>",
            "line": {"color": colour(colour_name(0)), "width": 1.8},
        }
    )
    figure = Figure(
        id="density",
        title="",
        data=data,
        layout={
            "xaxis": axis("eigenvalue"),
            "yaxis": axis(
                "density (log scale)", type="log", range=[math.log10(floor), math.log10(top * 3)]
            ),
            "hovermode": "closest",
        },
        height=460,
        note=f"Density below {number(floor, 1)} is not shown."
        + (" The band is two standard errors over probes." if probes > 1 else ""),
    )
    low, high = float(result.nodes.min()), float(result.nodes.max())
    rows: Rows = [
        ("Eigenvalues from", number(low, 4)),
        ("to", number(high, 4)),
        ("Trace", _with_error(result, lambda v: v)),
        ("Squared Frobenius norm", _with_error(result, lambda v: v.square())),
        ("Share below zero", number(result.mean(lambda v: (v < 0).double())[0])),
        ("Parameters", integer(result.size)),
        ("Probes", integer(probes)),
        ("Products", integer(result.products)),
    ]
    step = len(x) // 60
    body = [
        [number(float(a), 4), number(float(b)), number(float(c))]
        for a, b, c in zip(x[::step], values[::step], errors[::step], strict=True)
    ]
    table = (["eigenvalue", "density", "standard error"], body)
    headline = f"Eigenvalues from {number(low)} to {number(high)}"
    finding = f"The spectral density of the Hessian in {integer(result.size)} dimensions."
    return page_of("Spectral density", headline, finding, figure, rows, table)


def _with_error(result: SpectralDensity, function: Any) -> str:
    mean, error = result.mean(function)
    value = number(mean * result.size, 4)
    return value if math.isnan(error) else f"{value} ± {number(error * result.size, 2)}"


def eigenvalues(result: Eigenpairs) -> dict[str, Any]:
    """Return the page of single eigenvalues with their residuals."""
    values, residuals = result.values.tolist(), result.residuals.tolist()
    ranks = list(range(1, len(values) + 1))
    figure = Figure(
        id="eigenvalues",
        title="",
        data=[
            {
                "type": "scatter",
                "mode": "markers",
                "x": ranks,
                "y": values,
                "error_y": {"array": residuals, "color": colour(colour_name(0)), "thickness": 1.4},
                "customdata": [
                    f"{number(value, 5)} ± {number(residual, 2)}"
                    for value, residual in zip(values, residuals, strict=True)
                ],
                "hovertemplate": "number %{x}: <b>%{customdata}</b><extra></extra>",
                "marker": {"size": 10, "color": colour(colour_name(0))},
            }
        ],
        layout={
            "xaxis": axis("rank", dtick=1),
            "yaxis": axis("eigenvalue", rangemode="tozero"),
            "hovermode": "closest",
        },
        height=420,
        note="Bars reach as far as the residuals: an eigenvalue lies within each.",
    )
    rows: Rows = [
        ("Products", integer(result.products)),
        ("Within the tolerance", "yes" if result.converged else "no"),
        ("Parameters", integer(len(result.vectors))),
    ]
    body = [
        [integer(rank), number(value, 6), number(residual)]
        for rank, value, residual in zip(ranks, values, residuals, strict=True)
    ]
    table = (["rank", "eigenvalue", "residual"], body)
    headline = f"Eigenvalues from {number(max(values))} to {number(min(values))}"
    finding = f"{integer(len(values))} of {integer(len(result.vectors))}, each with its residual."
    return page_of("Eigenvalues", headline, finding, figure, rows, table)
