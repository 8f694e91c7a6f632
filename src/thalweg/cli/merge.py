"""``thalweg merge``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from thalweg.cli import looking
from thalweg.cli.console import console, number


class Keys(StrEnum):
    """What happens to tensors that not all models have."""

    same = "same"
    common = "common"
    all = "all"


def merge(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="METHOD MODEL...",
            help="A name of `thalweg list merge`, with settings in parentheses where it has any; "
            "then checkpoints: files in safetensors or of torch, folders in the Hugging Face "
            "form, LoRA adapters.",
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The checkpoint that all were fine-tuned from.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The new folder. [merged, or explained with --explain]")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="A YAML file in mergekit's convention says what to merge.")
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Merge nothing: show how the models agree, and where not; with --workload, also "
            "the barriers between them and what the merge would gain.",
        ),
    ] = False,
    workload: Annotated[
        str | None,
        typer.Option(help="A workload or task file, for merges that choose or weigh by data."),
    ] = None,
    statistics: Annotated[
        list[Path] | None,
        typer.Option(help="Statistics in safetensors, one a model, in their order; repeat it."),
    ] = None,
    base_statistics: Annotated[Path | None, typer.Option(help="The same of the base.")] = None,
    keys: Annotated[
        Keys, typer.Option(help="Refuse models of other tensors, leave those out, or keep them.")
    ] = Keys.same,
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16, float16 or float64; else the models'.")
    ] = None,
    shard_size: Annotated[float, typer.Option(help="Gigabytes of a file at most.")] = 5.0,
    samples: looking.Samples = 512,
    figure: looking.Figure = "svg",
    device: looking.Device = "cpu",
    seed: looking.Seed = 0,
) -> None:
    """Merge checkpoints into one, streaming, or explain how they agree.

    The new folder appears whole or not at all; it holds safetensors, the configuration and
    tokenizer, merge.json and SHA256SUMS.
    """
    from thalweg.core.errors import UsageError
    from thalweg.merge import merge_files, named, read_recipe
    from thalweg.merge.files.output import check_output
    from thalweg.race.merge_evidence import evidence_on
    from thalweg.report.numbers import size

    given = list(words or ())
    out = out or Path("explained" if explain else "merged")
    if explain:
        method, models = _split(given)
        if len(models) < 2 or (base is None and workload is None):
            raise UsageError(
                "to explain, name two checkpoints or more and their --base; barriers and the gain "
                "need a --workload, too"
            )
        named(method)
        files = {
            name: looking.prepare(out, name, figure)
            for name, wanted in (("diagnosis", base), ("prospect", workload))
            if wanted is not None
        }
        if base is not None:
            _diagnose(models, base, out, keys.value, files["diagnosis"])
        if workload is not None:
            on = {"samples": samples, "device": device, "seed": seed}
            _prospect(method, models, base, workload, out, files["prospect"], on)
        else:
            looking.remark("--workload would tell barriers, and what the merge would gain")
        return
    asked: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    if recipe is not None:
        if given or base:
            raise UsageError("a recipe names the merge, its models and the base; leave them out")
        read = read_recipe(recipe)
        method, models, base, notes = read.method, list(read.models), read.base, read.notes
        asked["dtype"] = read.dtype
    elif len(given) < 2:
        raise UsageError("name a merge and checkpoints: thalweg merge ties A B --base BASE")
    else:
        method, models = named(given[0]), given[1:]
    if dtype is not None:
        asked["dtype"] = looking.float_dtype(dtype)
    on: dict[str, Any] = {}
    if workload is not None:
        check_output(out, [Path(path) for path in models], 0)
        found = evidence_on(
            workload, method, models, base, samples=samples, device=device, seed=seed
        )
        on = {"score": found.evidence.score, "objective": found.evidence.objective}
        on |= {"statistics": found.statistics, "base_statistics": found.base_statistics}
    if statistics:
        on["statistics"] = statistics
    if base_statistics is not None:
        on["base_statistics"] = base_statistics
    with looking.progress_bar("merging") as progress:
        done = merge_files(
            method,
            models,
            base,
            out=out,
            keys=keys.value,  # type: ignore[arg-type]
            shard_size=looking.byte_count(shard_size),
            progress=progress,
            **asked,
            **on,
        )
    for note in (*notes, *done.notes):
        looking.remark(note)
    console().print(
        f"merged by {done.method}\n"
        f"{done.tensors} tensors, {size(done.size)} in {done.seconds:.1f} s: {done.out}",
        soft_wrap=True,
        markup=False,
    )


def _split(given: list[str]) -> tuple[str, list[str]]:
    """Return the merge and the checkpoints; a uniform soup if no merge is named."""
    from thalweg.core.registry import slugs
    from thalweg.merge import named  # noqa: F401 - fills the registry

    if given and given[0].partition("(")[0] in slugs("merge") and not Path(given[0]).exists():
        return given[0], given[1:]
    return "model-soups", given


def _prospect(
    method: str,
    models: list[str],
    base: str | None,
    workload: str,
    out: Path,
    file: Path | None,
    on: dict[str, Any],
) -> None:
    from thalweg.merge import named
    from thalweg.merge.prospects import prospect
    from thalweg.race.merge_evidence import evidence_on
    from thalweg.race.solutions import open_solutions

    which = [*models, *([base] if base is not None else [])]
    places = [f"{place}={path}" for place, path in enumerate(which)]
    solutions = open_solutions(workload, places, **on)
    name, objective = next(iter(solutions.test.items()), ("train loss", solutions.train))
    known = evidence_on(workload, named(method), models, base, **on)
    points = list(solutions.points.values())
    with looking.progress_bar("measuring") as progress:
        found = prospect(
            objective,
            dict(zip(models, points, strict=False)),
            points[-1] if base is not None else None,
            method,
            evidence={
                "score": known.evidence.score,
                "objective": known.evidence.objective,
                "statistics": known.statistics,
                "base_statistics": known.base_statistics,
            },
            progress=progress,
        )
    losses = ", ".join(
        f"{model} {number(loss)}" for model, loss in zip(models, found.losses, strict=True)
    )
    based = f", the base {number(found.base)}" if base is not None else ""
    better = "better" if found.gain >= 0 else "worse"
    console().print(
        f"{name}: {losses}{based}; {method} {number(found.merged)}, {number(abs(found.gain))} "
        f"{better} than the best model",
        soft_wrap=True,
        markup=False,
    )
    for (one, other), before, after in zip(found.pairs, found.before, found.after, strict=True):
        matched = "unknown" if after != after else number(after)
        console().print(
            f"barrier of the {name}, {one} to {other}: {number(before)} as they are, {matched} "
            "with units matched",
            soft_wrap=True,
            markup=False,
        )
    looking.write(found, out, "prospect", file)


def _diagnose(given: list[str], base: str, out: Path, keys: str, file: Path | None) -> None:
    from thalweg.merge import open_checkpoint
    from thalweg.merge.diagnosis import diagnose_sources

    sources = [open_checkpoint(path, base) for path in given]
    with looking.progress_bar("comparing") as progress:
        found = diagnose_sources(
            given,
            sources,
            open_checkpoint(base),
            keys=keys,  # type: ignore[arg-type]
            progress=progress,
        )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("layer", overflow="fold")
    for column in ("cancels", "moved", "cosine", "equal signs"):
        table.add_column(column, justify="right")
    for layer in (found.whole, *found.conflicting(12)):
        moved = max(layer.norms) / layer.base_norm if layer.base_norm else float("inf")
        table.add_row(
            layer.name,
            f"{layer.cancelled:.3f}",
            f"{moved:.2%}",
            _range(layer.cosines),
            _range(layer.signs),
        )
    console().print(table)
    console().print(
        "cancels: share of all movement lost in the sum; moved: the largest task vector over the "
        "base; cosine, equal signs: of task vectors, least and most over pairs"
    )
    looking.write(found, out, "diagnosis", file)


def _range(values: tuple[float, ...]) -> str:
    known = [x for x in values if x == x]
    if not known:
        return "-"
    low, high = min(known), max(known)
    return f"{low:.3f}" if low == high else f"{low:.3f} to {high:.3f}"
