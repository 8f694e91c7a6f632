"""``thalweg line``."""

from pathlib import Path
from typing import Annotated

import typer

from thalweg.cli import looking
from thalweg.core.errors import UsageError


def line(
    where: looking.Where,
    weights: looking.Which,
    steps: Annotated[int, typer.Option(help="Steps from one end to the other.")] = 50,
    extent: Annotated[float, typer.Option(help="How far, along a random direction.")] = 1.0,
    clip: Annotated[float | None, typer.Option(help="Draw higher losses at this one.")] = None,
    samples: looking.Samples = 512,
    figure: looking.Figure = "svg",
    device: looking.Device = "cpu",
    seed: looking.Seed = 0,
    out: looking.Out = Path("line"),
) -> None:
    """Evaluate the training loss between two points, or along a random direction from one."""
    from thalweg import landscape
    from thalweg.race.solutions import open_solutions

    file = looking.prepare(out, "line", figure)
    if len(weights) > 2:
        raise UsageError(f"a line goes through one point or two, found {len(weights)}")
    found = open_solutions(where, weights, samples=samples, device=device, seed=seed)
    with looking.progress_bar("line") as progress:
        if len(found.points) == 2:
            (result,) = landscape.lines(found.train, found.points, steps=steps, progress=progress)
        else:
            result = landscape.slice_along(
                found.train, extent=extent, steps=steps, seed=seed, progress=progress
            )
    looking.write(result, out, "line", file, title=found.workload.title, clip=clip)
