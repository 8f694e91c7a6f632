"""``thalweg barrier``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from thalweg.cli import looking
from thalweg.cli.console import console, number


class Order(StrEnum):
    """How layers are mixed."""

    single = "single"
    shallow_first = "shallow-first"
    deep_first = "deep-first"
    random = "random"


def barrier(
    where: looking.Where,
    weights: looking.Which,
    order: Annotated[
        Order, typer.Option(help="Each layer alone, or sets that grow.")
    ] = Order.single,
    steps: Annotated[int, typer.Option(help="Steps from one end to the other.")] = 2,
    controls: Annotated[
        bool, typer.Option("--controls", help="Try random displacements of the same length too.")
    ] = False,
    batch_norm: looking.BatchNorm = None,
    samples: looking.Samples = 512,
    figure: looking.Figure = "svg",
    device: looking.Device = "cpu",
    seed: looking.Seed = 0,
    out: looking.Out = Path("barrier"),
) -> None:
    """Mix two points layer by layer and measure how far losses and metric move."""
    from thalweg.landscape import layer_barriers
    from thalweg.race.solutions import open_solutions

    file = looking.prepare(out, "barriers", figure)
    policy = looking.between(batch_norm, frozen=False)
    found = open_solutions(where, weights, samples=samples, device=device, seed=seed)
    with looking.progress_bar("barriers") as progress:
        result = layer_barriers(
            found.train,
            found.points,
            order=order.value,  # type: ignore[arg-type]
            steps=steps,
            controls=controls,
            seed=seed,
            batch_norm=policy,
            also=found.also,
            progress=progress,
        )
    for name in result.names:
        worst = result.worst(name)
        if worst is not None:
            layers = worst.layers[0] if len(worst.layers) == 1 else f"{len(worst.layers)} layers"
            console().print(f"mixed into {name}: {number(worst.barrier)} at most, by {layers}")
    looking.write(result, out, "barriers", file, title=found.workload.title)
