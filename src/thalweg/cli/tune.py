"""``thalweg tune``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from thalweg.cli.console import bars, console, number, paragraphs

if TYPE_CHECKING:
    from rich.progress import Progress

    from thalweg.tune import Tuned


def tune(
    workload: Annotated[
        str, typer.Argument(help="digits, text, quadratic, or the path of your task file.")
    ],
    recipes: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE...",
            help='Such as "adamw + warmup(0.05) + linear": what it leaves open is tuned. With '
            "several, the recipe is tuned as well.",
        ),
    ],
    searcher: Annotated[
        str, typer.Option(help='See "thalweg list searcher"; settings as "hyperband(eta=4)".')
    ] = "gp-ei",
    trials: Annotated[
        int, typer.Option(help="Budget, in runs of full length; of shorter ones there are more.")
    ] = 20,
    steps: Annotated[int | None, typer.Option(help="Steps of a full run.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder. [tune-WORKLOAD]")] = None,
    evaluate_every: Annotated[int | None, typer.Option(help="Steps between evaluations.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps, ...")] = None,
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    threads: Annotated[int | None, typer.Option(help="Threads of torch.")] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="Optuna storage by URL, instead of a journal in the folder."),
    ] = None,
) -> None:
    """Tune what a recipe leaves open and write a report.

    The folder gets report.html, best.json, results.csv and tune.journal. After any interruption
    the same command continues.
    """
    from thalweg.report.tuning import write_tuning_report
    from thalweg.tune import TuneConfig, run_tune

    config = TuneConfig(
        workload=workload,
        recipes=tuple(recipes),
        out=out if out is not None else Path(f"tune-{Path(workload).stem}"),
        searcher=searcher,
        trials=trials,
        steps=steps,
        seed=seed,
        evaluate_every=evaluate_every,
        device=device,
        precision=precision,
        threads=threads,
        storage=storage,
    )
    with bars() as progress:
        tuned = run_tune(config, _display(progress, trials))
    page = write_tuning_report(tuned)
    screen = console()
    screen.print(_table(tuned))
    screen.print(paragraphs(sentences(tuned)))
    screen.print(f"\nreport: {page}", soft_wrap=True)
    if tuned.best is None:
        raise typer.Exit(1)


def sentences(tuned: "Tuned") -> list[str]:
    """Return what was found, in words."""
    summary = tuned.summary()
    counts = ", ".join(f"{count} {status}" for status, count in summary["trials"].items())
    found = [f"\n{len(tuned.found.trials)} trials: {counts}"]
    if tuned.best is None:
        errors = [trial.error for trial in tuned.found.trials if trial.error]
        return [*found, f"no trial has a result; the first: {errors[0] if errors else '-'}"]
    found.append(f"best {summary['metric_name']} {number(tuned.metric)}: {tuned.best}")
    for name, edge in summary["edges"].items():
        found.append(f"{name} is best at the {edge} edge of its range: a wider range may be better")
    if summary["importance"]:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in summary["importance"].items())
        found.append(f"share of the variance explained alone: {shares}")
    return found


def _display(progress: "Progress", trials: int) -> Any:
    from thalweg.tune import Job, Trial, Watcher

    total = progress.add_task("tune", total=None, left=None, note="trials")
    run = progress.add_task("", total=None, left=None, note="steps")
    best: list[float] = []

    def begun(job: Job) -> None:
        progress.update(total, completed=job.number)
        progress.reset(run, total=round(job.budget), description=f"trial {job.number}")

    def stepped(step: int, loss: float) -> None:
        progress.update(run, completed=step, note=f"steps, loss {number(loss)}")

    def ended(trial: Trial) -> None:
        if trial.loss is not None:
            best.append(trial.loss)
        note = f"trials of a budget of {trials} runs"
        if best:
            note += f", best {number(abs(min(best)))}"
        progress.update(total, completed=trial.number + 1, note=note)

    return Watcher(begun, stepped, ended)


def _table(tuned: "Tuned") -> Table:
    """Return the ten best trials as a table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = tuned.found.space.names
    for column in ("trial", "steps", tuned.workload.metric_name):
        table.add_column(column, justify="right")
    for name in names:
        table.add_column(name, overflow="fold", max_width=30)
    ranked = sorted(
        (trial for trial in tuned.found.trials if trial.loss is not None),
        key=lambda trial: (-trial.reached, trial.loss, trial.number),
    )
    for trial in ranked[:10]:
        values = [trial.values.get(name) for name in names]
        table.add_row(
            str(trial.number),
            f"{trial.reached:.0f}",
            number(tuned.metric_of(trial.loss)),
            *(number(one) if isinstance(one, float) else str(one or "-") for one in values),
        )
    return table
