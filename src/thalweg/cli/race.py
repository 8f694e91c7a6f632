"""``thalweg race``."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from thalweg.cli.console import bars, console, number, paragraphs

if TYPE_CHECKING:
    from rich.progress import Progress

    from thalweg.race.config import RaceConfig
    from thalweg.race.standings import Verdict


def race(
    workload: Annotated[
        str,
        typer.Argument(
            help="A name of `thalweg list workload`, published data as NAME:FOLDER, or the path of "
            "your task file."
        ),
    ] = "digits",
    entrant: Annotated[
        list[str] | None,
        typer.Option(
            "--entrant",
            "-e",
            metavar="RECIPE",
            help="A recipe, or NAME=RECIPE; repeat for each entrant. "
            "Without any, a field of well-known ones.",
        ),
    ] = None,
    ruleset: Annotated[
        str,
        typer.Option(
            metavar="budget|external|self|speedrun",
            help="Tuning by trials or another budget; by AlgoPerf's studies of 5 trials; "
            "none, and three times as long; or time to a target on a ladder of model sizes.",
        ),
    ] = "budget",
    trials: Annotated[
        int | None, typer.Option(help="Tuning trials of each entrant, or study. [8, external 5]")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Tuning budget of each entrant: 20trials, 3000steps or 90s."
        ),
    ] = None,
    searcher: Annotated[
        str, typer.Option(help="What proposes the trials; `thalweg list searcher` has them all.")
    ] = "quasi-random",
    prune: Annotated[
        bool, typer.Option("--prune", help="Give up trials that fall behind every entrant's best.")
    ] = False,
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="N|A..B|auto",
            help="Runs of each entrant's best trial; A..B and auto (3..10) add seeds only while "
            "somebody is not told apart. External: the studies. [6, external 5]",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of every run.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the race. [race-WORKLOAD]")] = None,
    target: Annotated[float | None, typer.Option(help="Metric that counts as reached.")] = None,
    evaluate_every: Annotated[int | None, typer.Option(help="Steps between evaluations.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps, ...")] = None,
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    threads: Annotated[int | None, typer.Option(help="Threads of torch.")] = None,
    log: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Log every run to tensorboard, wandb, mlflow or trackio as well; repeatable.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes (or Ray tasks, Slurm jobs) that do the runs.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Where runs wait for workers: postgresql://..., grpc://host:port, "
            "journal:///path, or a SQLite file.",
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(help="ray, ray://host:port, slurm, or slurm:partition=NAME,time=MINUTES."),
    ] = None,
) -> None:
    """Race training algorithms on a workload and write a report.

    Every entrant gets the same tuning budget; its best trial is run again under fresh seeds. The
    folder gets report.html, verdict.json, results.csv and race.sqlite. After any interruption the
    same command continues. With workers, `thalweg work FOLDER` lets others join.
    """
    from thalweg.race import DEFAULT_ENTRANTS, RaceConfig, Scale, parse_entrants, run_race
    from thalweg.report import write_report

    config = RaceConfig(
        workload=workload,
        entrants=parse_entrants(entrant or DEFAULT_ENTRANTS),
        out=out if out is not None else Path(f"race-{Path(workload).stem}"),
        ruleset=ruleset,
        trials=trials,
        budget=budget,
        searcher=searcher,
        prune=prune,
        seeds=seeds,
        steps=steps,
        seed=seed,
        target=target,
        evaluate_every=evaluate_every,
        device=device,
        precision=precision,
        threads=threads,
        loggers=tuple(log or ()),
    )
    if ruleset == "speedrun":
        _speedrun(config)
        return
    with bars() as progress:
        scale = Scale(workers, storage, cluster)
        verdict = run_race(config, _Display(progress), scale=scale)
        page = write_report(config.out, progress=landscape_bar(progress))
    screen = console()
    screen.print(leaderboard(verdict))
    screen.print(paragraphs(verdict.sentences))
    screen.print(f"\nreport: {page}", soft_wrap=True)
    if not any(standing.finished for standing in verdict.ranking):
        raise typer.Exit(1)


def _speedrun(config: "RaceConfig") -> None:
    from thalweg.race.speedrun import run_ladder
    from thalweg.report import write_report

    with bars() as progress:
        ladder = run_ladder(config, on_event=_Display(progress))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("size", "entrant", "steps to target", "record", "times as fast"):
        table.add_column(column, justify="left" if column == "entrant" else "right")
    for step in ladder.steps:
        reached = "-" if math.isinf(step.steps) else number(step.steps)
        cells = (reached, number(step.record), number(step.speed_up))
        table.add_row(step.rung, step.entrant, *cells)
    screen = console()
    screen.print(table)
    screen.print(paragraphs(ladder.sentences))
    for rung in dict.fromkeys(step.rung for step in ladder.steps):
        screen.print(f"report: {write_report(config.out / rung)}", soft_wrap=True)


class _Display:
    """Draws a race's events as bars: the race, and the runs under way."""

    def __init__(self, progress: "Progress") -> None:
        self._progress = progress
        self._race: Any = None
        self._steps = 0
        self._runs: dict[str, Any] = {}

    def __call__(self, event: Any) -> None:
        from thalweg.race import events

        progress = self._progress
        match event:
            case events.RaceStarted():
                self._steps = event.steps
                self._race = progress.add_task(
                    "race", total=event.runs, completed=event.done, left=None, note="runs"
                )
            case events.RunStarted():
                kind = {"target": "for the target", "tune": "trial", "final": "seed"}[event.phase]
                name = event.entrant if len(event.entrant) < 40 else event.entrant[:39] + "…"
                progress.update(self._race, total=event.runs, left=event.seconds_left)
                if event.run_id not in self._runs:
                    self._runs[event.run_id] = progress.add_task(
                        f"{name}, {kind} {event.number + 1}",
                        total=self._steps,
                        left=None,
                        note="steps",
                    )
            case events.RunStepped():
                note = f"steps, loss {number(event.loss)}"
                progress.update(self._runs[event.run_id], completed=event.step, note=note)
                progress.update(self._race, left=event.seconds_left)
            case events.RunFinished():
                progress.remove_task(self._runs.pop(event.row.run_id))
                progress.update(self._race, completed=event.done, left=event.seconds_left)
            case events.TargetSet():
                if event.value is not None:
                    progress.update(self._race, note=f"runs, target {number(event.value)}")


def landscape_bar(progress: "Progress") -> Any:
    """Return what draws the points of the landscape as a bar."""
    task = progress.add_task("landscape", visible=False, total=None, left=None, note="points")

    def update(done: int, points: int) -> None:
        progress.update(task, visible=True, total=points, completed=done)

    return update


def leaderboard(verdict: "Verdict") -> Table:
    """Return the ranking as a table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("rank", justify="right")
    table.add_column("entrant", overflow="fold", max_width=44)
    table.add_column(verdict.metric_name, justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("steps to target", justify="right")
    table.add_column("ms a step", justify="right")
    table.add_column("finished", justify="right")
    for standing in verdict.ranking:
        step = standing.seconds_per_step
        table.add_row(
            str(standing.rank),
            standing.entrant,
            number(standing.mean),
            f"{number(standing.low)} to {number(standing.high)}",
            number(standing.steps_to_target),
            "-" if step is None else f"{step * 1e3:.1f}",
            f"{standing.finished} of {standing.runs}",
        )
    return table
