"""``thalweg connect``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from thalweg.cli import looking
from thalweg.core.errors import UsageError


class Kind(StrEnum):
    """Which curve."""

    bezier = "bezier"
    chain = "chain"


def connect(
    where: looking.Where,
    weights: looking.Which,
    kind: Annotated[Kind, typer.Option(help="Which curve.")] = Kind.bezier,
    bends: Annotated[int, typer.Option(help="Points between the ends.")] = 1,
    steps: Annotated[int, typer.Option(help="Training steps of the curve.")] = 1000,
    lr: Annotated[float, typer.Option(help="Learning rate of the curve.")] = 0.03,
    points: Annotated[int, typer.Option(help="Points at which the curve is evaluated.")] = 61,
    batch_norm: looking.BatchNorm = None,
    samples: looking.Samples = 512,
    figure: looking.Figure = "svg",
    device: looking.Device = "cpu",
    seed: looking.Seed = 0,
    out: looking.Out = Path("connect"),
) -> None:
    """Train a curve of low loss between two points; write it, losses and metric along it."""
    from thalweg import landscape
    from thalweg.race.solutions import open_solutions
    from thalweg.workload import Batches

    file = looking.prepare(out, "profile", figure)
    if len(weights) != 2:
        raise UsageError(f"a curve connects two points, found {len(weights)}")
    policy = looking.between(batch_norm, frozen=False)
    found = open_solutions(where, weights, samples=samples, device=device, seed=seed)
    task = found.workload
    order = Batches(task.train, task.batch_size, seed, device, task.collate)
    one, other = found.points.values()
    with looking.progress_bar("curve") as progress:
        curve = landscape.connect(
            found.train.model,
            task.loss,
            (one, other),
            order.at,
            steps=steps,
            kind=kind.value,  # type: ignore[arg-type]
            bends=bends,
            lr=lr,
            seed=seed,
            progress=progress,
        )
    with looking.progress_bar("profile") as progress:
        result = landscape.profile(
            found.train,
            curve,
            points=points,
            batch_norm=policy,
            also=found.also,
            progress=progress,
        )
    curve.save(out / "curve.npz")
    looking.say_rises(result, "above the worse end")
    looking.write(result, out, "profile", file, title=found.workload.title)
