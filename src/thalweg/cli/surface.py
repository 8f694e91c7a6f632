"""``thalweg surface``."""

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from thalweg.cli import looking
from thalweg.core.errors import UsageError


class Plane(StrEnum):
    """Which plane through the first weights, or through three of them."""

    filter = "filter"
    layer = "layer"
    adaptive = "adaptive"
    none = "none"
    hessian = "hessian"
    trajectory = "trajectory"
    points = "points"


class Look(StrEnum):
    """How the page draws surfaces at first."""

    paper = "paper"
    studio = "studio"
    mesh = "mesh"
    relief = "relief"
    night = "night"


def surface(
    where: looking.Where,
    weights: looking.Which,
    plane: Annotated[
        Plane,
        typer.Option(
            help="Random directions by their normalisation, the Hessian's top eigenvectors, the "
            "plane of a trajectory, or that through three points."
        ),
    ] = Plane.filter,
    trajectory: Annotated[
        Path | None, typer.Option(help="Folder of a recorded trajectory, drawn on the plane.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps from one side to the other.")] = 50,
    extent: Annotated[float | None, typer.Option(help="How far to go to each side.")] = None,
    batch_norm: looking.BatchNorm = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after so many.")] = None,
    clip: Annotated[float | None, typer.Option(help="Draw higher losses at this one.")] = None,
    look: Annotated[Look, typer.Option(help="Of the page, which can change it.")] = Look.studio,
    export: Annotated[
        list[Path] | None,
        typer.Option(help="Also write .glb (glTF), .vtu (VTK) or .gif (one turn); repeatable."),
    ] = None,
    samples: looking.Samples = 512,
    figure: looking.Figure = "svg",
    device: looking.Device = "cpu",
    seed: looking.Seed = 0,
    out: looking.Out = Path("surface"),
) -> None:
    """Evaluate losses and metric on a plane, coarse to fine; the same command continues."""
    from thalweg import landscape
    from thalweg.race.solutions import open_solutions

    if clip is not None and not math.isfinite(clip):
        raise UsageError(f"--clip is a loss to draw higher ones at, found {clip}")
    file = looking.prepare(out, "surface", figure)
    looking.prepare_exports(export or [])
    if plane == Plane.trajectory and trajectory is None:
        raise UsageError("the plane of a trajectory needs --trajectory, the folder of one")
    through = plane == Plane.points
    if through and len(weights) != 3:
        raise UsageError(f"--plane points goes through three points, found {len(weights)}")
    if through and (trajectory is not None or extent is not None):
        raise UsageError("--plane points has its own extent, and draws no --trajectory")
    if through:
        policy = looking.between(batch_norm, frozen=True)
    else:
        policy = looking.around(batch_norm)
    found = open_solutions(where, weights, samples=samples, device=device, seed=seed)
    shared = {
        "also": found.also,
        "batch_norm": policy,
        "seconds": seconds,
        "keep": out / "surface.npz",
    }
    with looking.progress_bar("surface") as progress:
        if through:
            at = next(iter(found.points)) if policy == "frozen" else None
            result = landscape.plane(
                found.train,
                found.points,
                size=steps + 1,
                frozen_at=at,
                progress=progress,
                **shared,
            )
        else:
            trails = {} if trajectory is None else {"run": landscape.InFolder(trajectory)}
            frame = None
            if plane == Plane.hessian:
                frame = landscape.hessian_frame(found.train, seed=seed)
            elif plane == Plane.trajectory:
                frame = landscape.trajectory_frame(found.train.model, trails["run"])
            result = landscape.surface(
                found.train,
                frame,
                normalisation="filter" if frame else plane.value,  # type: ignore[arg-type]
                extent=extent,
                steps=steps,
                seed=seed,
                marks=found.points,
                trails=trails,
                progress=progress,
                **shared,
            )
    if not result.complete:
        looking.remark("the time is over; the same command continues where it was")
    if len(result.finest()[0]) < 2:
        looking.remark("not even the coarsest grid is finished, so nothing is drawn yet")
        looking.write(result, out, "surface", None)
        return
    title = found.workload.title
    looking.write(result, out, "surface", file, title=title, look=look.value, clip=clip)
    looking.write_exports(result, export or [], clip)
