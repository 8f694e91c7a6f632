"""Training a workload with a recipe: the one function that does it."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import torch

from thalweg.core.errors import UsageError
from thalweg.core.seeds import derive_seed
from thalweg.core.streams import GlobalStream
from thalweg.core.threads import use_threads
from thalweg.recipe import Recipe
from thalweg.train.algorithm import Build, as_recipe, build, hyper_parameters, recipe_text
from thalweg.train.checkpoint import Checkpoints
from thalweg.train.events import Callback
from thalweg.train.parallel import Parallel, check_parallel, own_device, process_group
from thalweg.train.result import Result
from thalweg.train.run import Run
from thalweg.train.settings import Settings, resolve
from thalweg.workload import Workload, load
from thalweg.workload.check import new_model
from thalweg.workload.trace import describe_error


def fit(
    workload: Workload | str,
    recipe: Recipe | str | Build,
    *,
    steps: int | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    precision: str = "float32",
    compile: bool = False,
    accumulate: int = 1,
    evaluate_every: int | None = None,
    target: float | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    resume: bool = True,
    threads: int | None = None,
    catch: bool = False,
    parallel: str | None = None,
) -> Result:
    """Train a workload's model with a training algorithm.

    The same call gives the same numbers, bit for bit, on the same machine with the same number of
    threads (on a GPU as far as its kernels are deterministic): the model's initial weights, the
    order of the data and the random numbers of training (dropout) each have a stream of their own
    derived from the seed, and the global generators are as before afterwards. Two algorithms with
    one seed start from the same weights and see the same batches. Evaluating more or less often
    does not change the training.

    A run with a checkpoint folder that was interrupted, however it was, continues from its newest
    checkpoint when the same call is made again, and ends with the same numbers as an
    uninterrupted one. (A ``DataLoader`` as training data is read again from its start, without
    training, to get to its place.)

    Example::

        from thalweg import train

        result = train.fit("digits", "adamw(lr=3e-3) + warmup(0.1) + linear", seed=1)
        print(result.final_metric, result.seconds)

    Args:
        workload: a workload, or what `thalweg.workload.load` takes.
        recipe: a recipe, its text, or a function ``(model, steps) -> torch optimiser``.
        steps: updates; the workload's budget by default.
        seed: of everything random, from 0.
        device: ``"cpu"``, ``"cuda"``, ...; by default the accelerator if there is one.
        precision: ``"float32"``, or ``"bfloat16"`` or ``"float16"`` for automatic mixed precision
            (weights stay float32; float16 scales the loss and skips updates that overflow).
        compile: whether the model runs under ``torch.compile``.
        accumulate: micro-batches that each batch is cut into; it must divide the batch size.
        evaluate_every: steps between evaluations; the workload's, or a twentieth of the steps. The
            last step is always evaluated.
        target: the metric that counts as solved; the workload's by default.
        callbacks: listen to the run.
        checkpoint: a folder for checkpoints of this one run.
        checkpoint_every: steps between checkpoints; every evaluation by default, and the end.
        resume: whether to continue from the folder's checkpoint; False removes it.
        threads: torch's threads during the run; unchanged by default.
        catch: whether an exception in the course of training is a result with the status
            ``failed``; by default it is raised.
        parallel: ``"ddp"`` or ``"fsdp"`` where each of several processes that `torchrun` started
            makes this same call: they share every batch (see `thalweg.train.parallel.Parallel`),
            and all return the same numbers, times and memory aside. ``"fsdp"`` takes neither
            checkpoints nor float16.

    Returns:
        How the run went. A loss or metric that becomes NaN or infinite ends the run at once with
        the status ``diverged``.

    Raises:
        UsageError: before any training: an impossible setting, a workload or recipe that cannot
            be used, or a checkpoint that was made with other settings.
    """
    if isinstance(workload, str):
        workload = load(workload)
    if parallel is not None and device is None:
        device = own_device()
    settings = resolve(
        workload,
        steps=steps,
        seed=seed,
        device=device,
        precision=precision,
        compile=compile,
        accumulate=accumulate,
        evaluate_every=evaluate_every,
        checkpoint_every=checkpoint_every,
        target=target,
        threads=threads,
    )
    chosen = as_recipe(recipe)
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise UsageError(
                f"callbacks are thalweg.train.Callback objects, found {type(callback).__name__}"
            )
    check_parallel(parallel, settings.precision, checkpoint is not None)
    stream = GlobalStream(derive_seed(seed, "run"), settings.device)
    group = process_group(settings.device) if parallel else contextlib.nullcontext()
    with use_threads(settings.threads), group, stream:
        part = None
        if parallel is not None:
            part = Parallel(parallel, seed, workload.batch_size, settings.device)
        run = _prepare(workload, chosen, settings, tuple(callbacks), stream, part)
        if checkpoint is not None:
            identity = settings.identity(workload, recipe_text(chosen))
            run.keep_in(Checkpoints(checkpoint, identity), resume)
        try:
            status = run.train()
        except Exception as error:
            if not catch:
                raise
            return run.result("failed", describe_error(error, workload.source_file))
        return run.result(status)


def _prepare(
    workload: Workload,
    recipe: Recipe | Build,
    settings: Settings,
    callbacks: tuple[Callback, ...],
    stream: GlobalStream,
    parallel: Parallel | None,
) -> Run:
    with GlobalStream(derive_seed(settings.seed, "model"), settings.device):
        model = new_model(workload).to(settings.device)
    if not model.training:
        model.train()
    if parallel is not None:
        model = parallel.shard(model)
    parts = build(recipe, model, settings.steps)
    hyper = hyper_parameters(recipe, parts.optimizer)
    return Run(
        workload,
        model,
        parts,
        settings,
        hyper=hyper,
        callbacks=callbacks,
        stream=stream,
        parallel=parallel,
    )
