"""``thalweg train``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from thalweg.cli.console import bars, console, duration, number
from thalweg.core.errors import UsageError


def train(
    workload: Annotated[
        str,
        typer.Argument(
            help="A name of `thalweg list workload`, published data as NAME:FOLDER, or the path of "
            "your task file."
        ),
    ],
    recipe: Annotated[str, typer.Argument(help='Such as "adamw(lr=3e-3) + linear".')],
    steps: Annotated[int | None, typer.Option(help="Steps of the run.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    evaluate_every: Annotated[int | None, typer.Option(help="Steps between evaluations.")] = None,
    accumulate: Annotated[int, typer.Option(help="Micro-batches of each step.")] = 1,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps, ...")] = None,
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    compile_model: Annotated[bool, typer.Option("--compile", help="Compile the model.")] = False,
    threads: Annotated[int | None, typer.Option(help="Threads of torch.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Folder for checkpoints; the same command continues there.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Safetensors file for the evaluation weights.")
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the training weights along the run, for `thalweg average` and "
            "`thalweg surface`."
        ),
    ] = None,
    record_every: Annotated[int, typer.Option(help="Steps between these.")] = 10,
    log: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Log to tensorboard, wandb, mlflow or trackio; repeatable."
        ),
    ] = None,
    log_folder: Annotated[Path, typer.Option(help="Folder for logs that are files.")] = Path(
        "logs"
    ),
    parallel: Annotated[
        str | None,
        typer.Option(help="ddp or fsdp, for several processes of torchrun. [ddp under torchrun]"),
    ] = None,
) -> None:
    """Train a workload with one recipe and print how it went.

    On many GPUs: torchrun --nproc-per-node N -m thalweg train TASK RECIPE. The processes share
    every batch; the numbers are those of one process up to rounding.
    """
    from thalweg.core.files import check_folder
    from thalweg.log import make
    from thalweg.train import RecordTrajectory, fit
    from thalweg.train.parallel import launched, rank
    from thalweg.workload import load

    if weights is not None and not weights.parent.is_dir():
        raise UsageError(f"cannot write {weights}: {weights.parent} is no folder; make it first")
    recording = []
    if record is not None:
        if parallel == "fsdp":
            raise UsageError("--record takes whole weights, and --parallel fsdp shards them")
        check_folder(record)
        recording.append(RecordTrajectory(record_every, folder=record))
    task = load(workload)
    loggers = make(log or (), folder=log_folder, facts={"recipe": recipe})
    with bars() as progress:
        result = fit(
            task,
            recipe,
            steps=steps,
            seed=seed,
            evaluate_every=evaluate_every,
            accumulate=accumulate,
            device=device,
            precision=precision,
            compile=compile_model,
            threads=threads,
            checkpoint=checkpoint,
            callbacks=[_bar(progress), *loggers, *recording] if rank() == 0 else [],
            parallel="ddp" if parallel is None and launched() else parallel,
        )
    if rank() > 0:
        raise typer.Exit(0 if result.status == "ok" else 1)
    screen = console()
    for point in result.curve:
        screen.print(
            f"step {point.step:6d}  loss {number(point.train_loss):>9}  "
            f"{task.metric_name} {number(point.metric):>9}  {duration(point.seconds)}"
        )
    if result.status != "ok":
        screen.print(f"{result.status}: {result.error}", soft_wrap=True)
        raise typer.Exit(1)
    screen.print(
        f"{task.metric_name} {number(result.final_metric)} after {result.steps} steps, "
        f"{duration(result.seconds)} of training"
    )
    if weights is not None:
        from safetensors.torch import save_file

        save_file(result.weights, weights)
        screen.print(f"weights: {weights}", soft_wrap=True)
    if record is not None:
        screen.print(f"weights along the run: {record}", soft_wrap=True)


def _bar(progress: Any) -> Any:
    from thalweg.train import Callback

    class Bar(Callback):
        """Draws the run as a bar."""

        def on_start(self, run: Any) -> None:
            total = run.settings.steps
            self.task = progress.add_task("training", total=total, left=None, note="")

        def on_step(self, run: Any, step: int, loss: float) -> None:
            del run
            task = progress.tasks[0]
            progress.update(
                self.task, completed=step, left=task.time_remaining, note=f"loss {number(loss)}"
            )

    return Bar()
