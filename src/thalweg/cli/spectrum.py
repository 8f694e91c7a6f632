"""``thalweg spectrum``."""

from pathlib import Path
from typing import Annotated

import typer

from thalweg.cli import looking
from thalweg.cli.console import console, number
from thalweg.core.checks import check_whole
from thalweg.core.errors import UsageError


def spectrum(
    where: looking.Where,
    weights: looking.Which,
    count: Annotated[int, typer.Option(help="Eigenvalues at the top.")] = 5,
    probes: Annotated[int, typer.Option(help="Random vectors of the density.")] = 10,
    steps: Annotated[int, typer.Option(help="Products a probe.")] = 50,
    samples: looking.Samples = 512,
    figure: looking.Figure = "svg",
    device: looking.Device = "cpu",
    seed: looking.Seed = 0,
    out: looking.Out = Path("spectrum"),
) -> None:
    """Estimate the Hessian's spectral density and its top eigenvalues at one point."""
    from thalweg.landscape.curvature import Hessian, eigenpairs, spectral_density
    from thalweg.race.solutions import open_solutions

    file = looking.prepare(out, "density", figure)
    top_figure = looking.prepare(out, "eigenpairs", figure)
    if len(weights) != 1:
        raise UsageError(f"a spectrum is that of one point, found {len(weights)}")
    for name, value in (("count", count), ("probes", probes), ("steps", steps)):
        check_whole(name, value, least=1)
    found = open_solutions(where, weights, samples=samples, device=device, seed=seed)
    hessian = Hessian(found.train)
    with looking.progress_bar("eigenpairs, at most") as progress:
        top = eigenpairs(hessian, count, seed=seed, progress=progress)
    for value, residual in zip(top.values.tolist(), top.residuals.tolist(), strict=True):
        console().print(f"eigenvalue {number(value):>10}  residual {number(residual)}")
    looking.write(top, out, "eigenpairs", top_figure, title=found.workload.title)
    with looking.progress_bar("density") as progress:
        density = spectral_density(
            hessian, probes=probes, steps=steps, seed=seed, progress=progress
        )
    looking.write(density, out, "density", file, title=found.workload.title)
