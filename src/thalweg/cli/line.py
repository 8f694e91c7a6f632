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
    batch_norm: looking.BatchNorm = None,
    clip: Annotated[float | None, typer.Option(help="Draw higher losses at this one.")] = None,
    samples: looking.Samples = 512,
    figure: looking.Figure = "svg",
    device: looking.Device = "cpu",
    seed: looking.Seed = 0,
    out: looking.Out = Path("line"),
) -> None:
    """Evaluate losses and metric between two points, or along a random direction from one."""
    from thalweg import landscape
    from thalweg.race.solutions import open_solutions

    file = looking.prepare(out, "line", figure)
    if len(weights) > 2:
        raise UsageError(f"a line goes through one point or two, found {len(weights)}")
    two = len(weights) == 2
    policy = looking.between(batch_norm, frozen=True) if two else looking.around(batch_norm)
    found = open_solutions(where, weights, samples=samples, device=device, seed=seed)
    with looking.progress_bar("line") as progress:
        shared = {"also": found.also, "batch_norm": policy, "progress": progress}
        if two:
            at = next(iter(found.points)) if policy == "frozen" else None
            (result,) = landscape.lines(
                found.train, found.points, steps=steps, frozen_at=at, **shared
            )
        else:
            result = landscape.slice_along(
                found.train, extent=extent, steps=steps, seed=seed, **shared
            )
    if isinstance(result, landscape.Line):
        looking.say_rises(result, "above the straight line between the ends")
    looking.write(result, out, "line", file, title=found.workload.title, clip=clip)
