"""Interactive pages of what was measured around and between solutions."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from thalweg.core.errors import UsageError
from thalweg.core.files import make_folder
from thalweg.landscape import Grid, LayerBarriers, Sharpness
from thalweg.landscape.along import Along
from thalweg.landscape.curvature import Eigenpairs, GradientStatistics, SpectralDensity
from thalweg.landscape.figures.heights import Scale
from thalweg.report import assets
from thalweg.report.figure import to_json
from thalweg.report.looking import barriers, lines, sizes, spectra, surfaces
from thalweg.report.page import fill, write_page

SCRIPTS = (
    *("field", "scale", "space", "looks", "stage", "pens", "view", "map", "export"),
    *("main", "hands", "files", "start"),
)
"""The parts of the page's script, in the order in which they need one another."""

_OTHERS: dict[type, Callable[[Any], dict[str, Any]]] = {
    LayerBarriers: barriers.barriers,
    SpectralDensity: spectra.density,
    Eigenpairs: spectra.eigenvalues,
    Sharpness: sizes.sharpness,
    GradientStatistics: sizes.statistics,
}


def write_landscape(
    results: Any,
    path: str | os.PathLike[str],
    *,
    title: str = "",
    scale: Scale = "auto",
    clip: float | None = None,
    look: str = "studio",
    colour_map: str | None = None,
) -> Path:
    """Write the interactive page of results: one file that works offline.

    Surfaces and planes become a page with the surface in space beside its map, both linked; the
    losses in it are those of the result, bit for bit.

    Args:
        results: a result, or several surfaces and planes by name, which share one scale.
        path: the file to write, in ``.html``; its folder is made.
        title: what the results are of, in a few words, such as the workload's name.
        scale: of the losses: "linear", "log" or "auto" (see `Grid.plot`); the page can switch.
        clip: losses above are drawn at it; the page can change it.
        look: "paper", "studio", "mesh", "relief" or "night"; the page can change it.
        colour_map: "viridis", "cividis", "tarn" or "ember"; the look's own unless given.

    Returns:
        The path of the page.

    Raises:
        UsageError: there is no page of such a result, nothing to draw, an impossible argument, or
            the page cannot be written.
    """
    file = Path(path)
    if file.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"a page is a file in .html; found {file}")
    grids = {"": results} if isinstance(results, Grid) else results
    if isinstance(grids, Mapping) and grids and all(isinstance(g, Grid) for g in grids.values()):
        sections = surfaces.build(
            grids, scale=scale, clip=clip, look=look, colours=colour_map, file=file.stem
        )
        page = _surface_page(sections, title)
    else:
        sections = _of_one(results, scale, clip)
        page = fill(
            "looking.html.j2",
            sections,
            title=title,
            surface_style=assets.static("surface/surface.css"),
        )
    make_folder(file.parent)
    return write_page(file, page)


def _of_one(result: Any, scale: Scale, clip: float | None) -> dict[str, Any]:
    if isinstance(result, Along):
        return lines.along(result, scale, clip)
    for kind, build in _OTHERS.items():
        if isinstance(result, kind):
            return build(result)
    raise UsageError(
        f"there is no page of a {type(result).__name__}; there are pages of surfaces, planes, "
        "lines, slices, profiles of curves, barriers by layer, spectral densities, eigenpairs, "
        "sharpness and samples' gradients"
    )


def _surface_page(sections: dict[str, Any], title: str) -> str:
    scripts = "\n".join(assets.static(f"surface/{name}.js") for name in SCRIPTS)
    return fill(
        "surface.html.j2",
        {},
        **{key: value for key, value in sections.items() if key != "data"},
        title=title,
        surfaces=to_json(sections["data"]),
        surface_style=assets.static("surface/surface.css"),
        surface_script=Markup(f"(() => {{\n'use strict';\n{scripts}\n}})();"),
    )
