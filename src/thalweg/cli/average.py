"""``thalweg average``."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from thalweg.cli import looking
from thalweg.cli.console import console, number
from thalweg.core.errors import UsageError


def average(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(
            metavar="CKPT...",
            help="Checkpoints of one run: files in safetensors or of torch, folders in the Hugging "
            "Face form, or a folder that holds several. In the order of the numbers in their "
            "names if these grow together, else as given, oldest first.",
        ),
    ],
    last: Annotated[
        int | None, typer.Option(metavar="K", help="Average the K latest alone.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help='What each weighs, from the oldest: "1,2,3".')
    ] = None,
    ema: Annotated[
        float | None,
        typer.Option(
            metavar="DECAY",
            help="Exponential: each weighs DECAY times the next. Of snapshots that "
            "power-ema(folder=...) kept: the average with this decay at every point of the run.",
        ),
    ] = None,
    width: Annotated[
        float | None,
        typer.Option(help="Of such snapshots: the power-function average of this relative width."),
    ] = None,
    at: Annotated[
        int | None, typer.Option(metavar="POINTS", help="Of such snapshots: at an earlier time.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The new folder.")] = Path("average"),
    workload: Annotated[
        str | None,
        typer.Option(
            help="A workload or task file: recompute batch-norm statistics on its training data, "
            "and compare the average with each checkpoint."
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(help="Training samples for batch-norm statistics, at least.")
    ] = 1024,
    dtype: Annotated[
        str | None,
        typer.Option(help="float32, bfloat16, float16 or float64; else the checkpoints'."),
    ] = None,
    shard_size: Annotated[float, typer.Option(help="Gigabytes of a file at most.")] = 5.0,
    device: looking.Device = "cpu",
    seed: looking.Seed = 0,
) -> None:
    """Average checkpoints of one run into one model, streaming.

    Without options it is their mean. Tensor by tensor is read, so checkpoints may be larger than
    memory. The new folder appears whole or not at all; it holds safetensors, the configuration and
    tokenizer, merge.json and SHA256SUMS.
    """
    from thalweg.merge.files.averaging import average_files, choose_points
    from thalweg.merge.files.output import check_output
    from thalweg.report.numbers import size

    options: dict[str, Any] = {}
    if dtype is not None:
        options["dtype"] = looking.float_dtype(dtype)
    points = choose_points(
        checkpoints, last=last, weights=_numbers(weights), ema=ema, width=width, at=at
    )
    check_output(out, [*checkpoints, *points.paths], 0)
    evidence = None
    if workload is not None:
        from thalweg.race.point_evidence import PointEvidence

        evidence = PointEvidence(
            workload, points.paths[-1], samples=samples, device=device, seed=seed
        )
        options["finish"] = evidence.recalibrated
    with looking.progress_bar("averaging") as progress:
        done = average_files(
            points, out=out, shard_size=looking.byte_count(shard_size), progress=progress, **options
        )
    for note in done.notes:
        recomputed = evidence is not None and note.startswith("batch-norm")
        files = note.startswith("no model is a folder") and not any(
            p.is_dir() for p in points.paths
        )
        if not (recomputed or files):
            looking.remark(note)
    names = [path.name for path in points.paths]
    between = f"{names[0]} to {names[-1]}" if len(names) > 1 else names[0]
    console().print(
        f"averaged {len(names)} checkpoints, {between}\n"
        f"{done.tensors} tensors, {size(done.size)} in {done.seconds:.1f} s: {done.out}",
        soft_wrap=True,
        markup=False,
    )
    if points.error is not None:
        console().print(f"the profile is {points.error:.1%} off the one asked for")
    if evidence is not None:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("checkpoint", overflow="fold")
        table.add_column(evidence.name, justify="right")
        with looking.progress_bar("evaluating") as progress:
            for i, path in enumerate(points.paths, 1):
                table.add_row(path.name, number(evidence.metric(path)))
                progress(i, len(points.paths))
        table.add_row("average", number(evidence.metric(out)))
        console().print(table)


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f'--weights are numbers such as "1,2,3", found {text!r}') from None
