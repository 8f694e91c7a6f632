"""Stochastic weight averaging in parallel: one large-batch run, many small ones, their mean."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from thalweg.average.kept import mean_of
from thalweg.core.batch_norm import recalibrate_batch_norm
from thalweg.core.checks import check_number, check_whole
from thalweg.core.errors import UsageError
from thalweg.core.files import write_atomically
from thalweg.core.seeds import derive_seed
from thalweg.core.streams import GlobalStream
from thalweg.recipe import Recipe
from thalweg.workload import Workload, in_order, load
from thalweg.workload.batch import sample_count
from thalweg.workload.check import new_model
from thalweg.workload.tally import Tally


@dataclasses.dataclass(frozen=True)
class Swap:
    """What came out of `swap`.

    Attributes:
        weights: the mean of the workers' weights, with batch-norm statistics of its own.
        metric: the workload's metric at these, on the validation data.
        members: the metric of each worker's own weights.
        first_steps: updates of the first phase.
        first_metric: the metric on the training data where it ended.
        reached: whether that is where it was to end.
    """

    weights: dict[str, Tensor] = dataclasses.field(repr=False)
    metric: float
    members: tuple[float, ...]
    first_steps: int
    first_metric: float
    reached: bool


def swap(
    workload: str,
    first: Recipe | str,
    second: Recipe | str,
    *,
    until: float,
    workers: int = 4,
    first_steps: int,
    second_steps: int,
    first_batch: int,
    evaluate_every: int = 10,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
) -> Swap:
    """Train in three phases over several processes of this machine.

    In the first phase all workers train one model together on large batches (DDP), until its metric
    on the training data is as good as ``until``. In the second each goes on from there alone, with
    small batches in an order of its own. The third takes the mean of their weights, and recomputes
    batch-norm statistics over the training data. Gupta, Akle Serrano & DeCoste, "Stochastic Weight
    Averaging in Parallel: Large-Batch Training that Generalizes Well", ICLR 2020, arXiv:2001.02312:
    the first phase ends below 100 % training accuracy, or the workers do not come apart.

    The same call gives the same numbers. With a folder, a call that was interrupted goes on from
    the processes' checkpoints when it is made again.

    Args:
        workload: a name or file that `thalweg.workload.load` takes; every process loads it.
        first: the recipe of the first phase.
        second: the recipe of the second, which starts with fresh optimisers and its own schedule.
        until: the metric on the training data that ends the first phase.
        workers: processes, at least 1.
        first_steps: updates of the first phase at most.
        second_steps: updates of each worker in the second; 0 leaves it out.
        first_batch: samples in a batch of the first phase, over all workers; the second has the
            workload's.
        evaluate_every: steps between evaluations.
        seed: of everything random.
        folder: for checkpoints and the workers' weights; a temporary one if None.

    Raises:
        UsageError: an impossible setting, before any process starts; or a worker that failed, with
            what it said.
    """
    problem = load(workload)
    recipes = [str(Recipe.parse(first)), str(Recipe.parse(second))]
    check_number("swap: until", until, "[-inf, inf]")
    check_whole("swap: workers", workers, least=1)
    check_whole("swap: first_steps", first_steps, least=1)
    check_whole("swap: second_steps", second_steps, least=0)
    check_whole("swap: first_batch", first_batch, least=workers)
    check_whole("swap: evaluate_every", evaluate_every, least=1)
    check_whole("swap: seed", seed, least=0)
    plan = {
        "workload": workload,
        "first": recipes[0],
        "second": recipes[1],
        "until": until,
        "workers": workers,
        "first_steps": first_steps,
        "second_steps": second_steps,
        "first_batch": first_batch,
        "evaluate_every": evaluate_every,
        "seed": seed,
        "threads": max(1, torch.get_num_threads() // workers),
    }
    if folder is not None:
        return _swap(problem, plan, Path(folder))
    with tempfile.TemporaryDirectory() as made:
        return _swap(problem, plan, Path(made))


def _swap(problem: Workload, plan: dict[str, object], folder: Path) -> Swap:
    folder.mkdir(parents=True, exist_ok=True)
    file, text = folder / "plan.json", json.dumps(plan, sort_keys=True)
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise UsageError(
            f"{folder} holds a run with other settings; choose another folder, or delete it"
        )
    write_atomically(file, text.encode())
    workers = int(str(plan["workers"]))
    done = [folder / "first.json", *(folder / f"worker-{i}.json" for i in range(workers))]
    if not all(file.exists() for file in done):
        _run_workers(folder, workers)
    ends = [json.loads((folder / f"worker-{i}.json").read_text("utf-8")) for i in range(workers)]
    points = [load_file(folder / f"worker-{i}.safetensors") for i in range(workers)]
    seed = int(str(plan["seed"]))
    weights, metric = _evaluated(problem, mean_of(points), seed)
    return Swap(
        weights,
        metric,
        tuple(end["metric"] for end in ends),
        ends[0]["first_steps"],
        ends[0]["first_metric"],
        ends[0]["reached"],
    )


def _evaluated(
    problem: Workload, mean: dict[str, Tensor], seed: int
) -> tuple[dict[str, Tensor], float]:
    with GlobalStream(derive_seed(seed, "swap")):
        model = new_model(problem)
        model.load_state_dict(mean)
        cpu = torch.device("cpu")
        training = in_order(problem.train, problem.batch_size, cpu, problem.collate)
        recalibrate_batch_norm(model, training, problem.loss)
        model.eval()
        tally = Tally(problem)
        with torch.no_grad():
            for batch in in_order(problem.validation, problem.batch_size, cpu, problem.collate):
                tally.add(problem.metric(model, batch), sample_count(batch))
    return {name: x.detach().clone() for name, x in model.state_dict().items()}, tally.result()


def _run_workers(folder: Path, workers: int) -> None:
    """Start the workers and wait for them; if one fails, stop the others.

    Raises:
        UsageError: a worker failed.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(workers)}
    processes, logs = [], []
    try:
        for i in range(workers):
            logs.append((folder / f"worker-{i}.log").open("w+", encoding="utf-8"))
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "thalweg.train.swap_worker", str(folder), str(i)],
                    stdout=logs[i],
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **meeting, "RANK": str(i), "LOCAL_RANK": str(i)},
                )
            )
        waiting = set(range(workers))
        while waiting:
            time.sleep(0.05)
            for i in list(waiting):
                code = processes[i].poll()
                if code is None:
                    continue
                waiting.discard(i)
                if code:
                    logs[i].seek(0)
                    said = logs[i].read().strip().splitlines()[-3:]
                    raise UsageError(f"worker {i} of SWAP failed: " + "; ".join(said))
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process, log in zip(processes, logs, strict=False):
            process.wait()
            log.close()
