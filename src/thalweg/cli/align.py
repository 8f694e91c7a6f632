"""``thalweg align``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from thalweg.cli import looking
from thalweg.cli.console import console, number
from thalweg.core.errors import UsageError


class By(StrEnum):
    """What units are matched by."""

    weights = "weights"
    activations = "activations"
    straight_through = "straight-through"


def align(
    where: looking.Where,
    weights: looking.Which,
    by: Annotated[By, typer.Option(help="What units are matched by.")] = By.weights,
    merge: Annotated[
        bool,
        typer.Option("--merge", help="Write the mean of both too, its activations REPAIRed."),
    ] = False,
    steps: Annotated[int, typer.Option(help="Steps along the lines, before and after.")] = 20,
    samples: looking.Samples = 512,
    figure: looking.Figure = "svg",
    device: looking.Device = "cpu",
    seed: looking.Seed = 0,
    out: looking.Out = Path("align"),
) -> None:
    """Bring the second of two networks into the first one's order of units: Git Re-Basin.

    The units that may change places are found from a run of the model, and tried before use. The
    second network is written in its new order, with the losses on the straight line between both
    before and after.
    """
    from safetensors.torch import save

    from thalweg import landscape
    from thalweg.core.files import make_folder, write_atomically
    from thalweg.merge.permutations import align as match
    from thalweg.merge.permutations import distance, moved_share, preactivations, repair
    from thalweg.race.solutions import open_solutions

    files = {name: looking.prepare(out, name, figure) for name in ("before", "after")}
    if len(weights) != 2:
        raise UsageError(f"two networks are aligned, found {len(weights)}")
    found = open_solutions(where, weights, samples=samples, device=device, seed=seed)
    (one, first), (other, second) = found.points.items()
    called = f"{other}-aligned"
    with looking.progress_bar("matching") as progress:
        structure, matching = match(
            found.train, first, second, by.value, seed=seed, progress=progress
        )
    moved = structure.apply(second, matching.permutations)
    results = {}
    for name, points in (("before", found.points), ("after", {one: first, called: moved})):
        with looking.progress_bar(f"line {name}") as progress:
            (results[name],) = landscape.lines(
                found.train,
                points,
                steps=steps,
                batch_norm="recalibrate",
                also=found.also,
                progress=progress,
            )
    merged = None
    if merge:
        ends = [preactivations(found.train, point) for point in (first, moved)]
        mean = {
            name: (x.lerp(moved[name].to(x), 0.5) if x.is_floating_point() else x)
            for name, x in first.items()
        }
        with looking.progress_bar("repair") as progress:
            merged = repair(found.train, mean, ends, progress=progress)
    make_folder(out)
    for name, content in ((called, moved), ("merged", merged)):
        if content is not None:
            whole = {n: x.detach().cpu().clone().contiguous() for n, x in content.items()}
            write_atomically(out / f"{name}.safetensors", save(whole))
    if not structure.groups:
        looking.remark("no units of this network can change places")
    for reason, tensors in structure.reasons.items():
        looking.remark(f"keep their order, since {reason}: {', '.join(tensors)}")
    share = moved_share(structure, matching.permutations)
    console().print(
        f"{structure.unit_count} units in {len(structure.groups)} groups, {share:.0%} change "
        f"places; {number(distance(first, second))} apart before, "
        f"{number(distance(first, moved))} after"
    )
    names = [None, *(name for name in found.also if name.endswith("loss"))]
    for name in names:
        before, after = (number(results[k].rise(name)) for k in ("before", "after"))
        console().print(f"barrier of the {name or 'train loss'}: {before} before, {after} after")
    if merged is not None:
        for name, objective in {"train loss": found.train, **found.also}.items():
            with objective.span(
                {"merged": merged}, batch_norm="frozen", frozen_at="merged"
            ) as loss_at:
                console().print(f"{name} of the mean, repaired: {number(loss_at([1.0]))}")
        console().print(f"mean: {out / 'merged.safetensors'}", soft_wrap=True)
    console().print(f"weights: {out / called}.safetensors", soft_wrap=True)
    for name, file in files.items():
        looking.write(results[name], out, name, file, title=found.workload.title)
