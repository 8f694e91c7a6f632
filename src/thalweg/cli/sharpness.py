"""``thalweg sharpness``."""

from pathlib import Path
from typing import Annotated

import typer

from thalweg.cli import looking
from thalweg.cli.console import console, number
from thalweg.core.errors import UsageError


def sharpness(
    where: looking.Where,
    weights: looking.Which,
    rho: Annotated[float, typer.Option(help="Radius of the neighbourhood.")] = 0.05,
    p: Annotated[float, typer.Option(help="Of its norm, from 1 to inf.")] = 2.0,
    adaptive: Annotated[
        bool, typer.Option("--adaptive", help="Scale the neighbourhood with the weights.")
    ] = False,
    epsilon: Annotated[
        float | None, typer.Option(help="Keskar's box of this size in place of the ball.")
    ] = None,
    samples: looking.Samples = 512,
    figure: looking.Figure = "svg",
    device: looking.Device = "cpu",
    seed: looking.Seed = 0,
    out: looking.Out = Path("sharpness"),
) -> None:
    """Measure how far the training loss rises around one point, and draw the way to the worst."""
    from thalweg import landscape
    from thalweg.engine.closure import unflatten
    from thalweg.race.solutions import open_solutions

    file = looking.prepare(out, "sharpness", figure)
    way_file = looking.prepare(out, "way", figure)
    if len(weights) != 1:
        raise UsageError(f"sharpness is that of one point, found {len(weights)}")
    found = open_solutions(where, weights, samples=samples, device=device, seed=seed)
    with looking.progress_bar("sharpness") as progress:
        if epsilon is None:
            result = landscape.sharpness(
                found.train, rho, p=p, adaptive=adaptive, progress=progress
            )
        else:
            result = landscape.epsilon_sharpness(found.train, epsilon, progress=progress)
    console().print(
        f"loss {number(result.loss)}, rises by {number(result.rise)}, "
        f"dual gradient norm {number(result.gradient_norm)}"
    )
    title = found.workload.title
    looking.write(result, out, "sharpness", file, title=title)
    if not bool(result.displacement.any()):
        return  # no way leads to a worst point
    towards = unflatten(result.displacement, found.train.trainable())
    with looking.progress_bar("way to the worst point") as progress:
        way = landscape.slice_along(
            found.train,
            towards,
            steps=20,
            batch_norm="frozen",
            also=found.also,
            progress=progress,
        )
    looking.write(way, out, "way", way_file, title=title)
