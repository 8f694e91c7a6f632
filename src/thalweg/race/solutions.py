"""Weights to look at: files in safetensors or runs of a race, with the loss of their workload."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from thalweg import workload as workloads
from thalweg.core.checks import check_whole
from thalweg.core.errors import UsageError
from thalweg.core.seeds import derive_seed
from thalweg.core.streams import GlobalStream
from thalweg.landscape import Objective, Weights
from thalweg.landscape.geometry import vectors_of
from thalweg.merge.files.checkpoint import load_weights
from thalweg.race.store import Store
from thalweg.train.settings import chosen_device
from thalweg.workload import Workload
from thalweg.workload.batch import sample_count
from thalweg.workload.check import new_model
from thalweg.workload.tally import Tally

PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin")


@dataclass(frozen=True)
class Solutions:
    """Weights of one workload, and its losses.

    Attributes:
        workload: what they solve.
        train: the loss on training samples.
        test: the loss on validation samples, by the name "test loss"; empty where they are of
            another form than the training samples, and have a metric but no loss.
        metrics: the workload's metric on either, by names such as "train accuracy"; likewise.
        points: weights by name, in the order that they were asked for.
    """

    workload: Workload
    train: Objective
    test: dict[str, Objective]
    metrics: dict[str, Objective]
    points: dict[str, Weights]

    @property
    def also(self) -> dict[str, Objective]:
        """Return all that is evaluated beside the training loss, by name."""
        return {**self.test, **self.metrics}


def open_solutions(
    where: str, which: Sequence[str], *, samples: int = 512, device: str = "cpu", seed: int = 0
) -> Solutions:
    """Read weights, and make the objectives of their workload at the first of them.

    Args:
        where: a workload's name, the path of a task file, or the folder of a race.
        which: files in safetensors, ``name=file`` to name them; of a race, entrants' names, for
            the entrant's best final run, or the runs' own names (``final-00-001``).
        samples: of the training and of the validation data, at least; whole batches.
        device: where the model is.
        seed: of which training samples.

    Raises:
        UsageError: there are no such weights, they are pickled, not finite, or not the model's.
    """
    check_whole("samples", samples, 1)
    if not which:
        raise UsageError("no weights were given; name files in safetensors, or entrants of a race")
    race = Path(where).is_dir()
    name, points = _of_race(Path(where), which) if race else (where, _of_files(which))
    workload = workloads.load(name)
    place = chosen_device(device)
    with GlobalStream(derive_seed(seed, "landscape", "model"), place):
        model = new_model(workload).to(place)
    vectors_of(model, points)  # which refuses other architectures
    try:
        model.load_state_dict(next(iter(points.values())))
    except RuntimeError as error:
        raise UsageError(f"these are not the weights of {workload.title}: {error}") from None
    ordered = workloads.Batches(
        workload.train,
        workload.batch_size,
        derive_seed(seed, "landscape"),
        place,
        workload.collate,
    )
    training = _first(samples, (ordered.at(step) for step in itertools.count()))
    held_out = _first(
        samples,
        workloads.in_order(workload.validation, workload.batch_size, place, workload.collate),
    )
    train = Objective(model, workload.loss, training)

    def tally(batches: list[Any]) -> None:
        total = Tally(workload)
        for batch in batches:
            total.add(workload.metric(model, batch), sample_count(batch))
        total.result()

    def measure(model: Any, batch: Any) -> Tensor:
        value = torch.as_tensor(workload.metric(model, batch)).cpu().double()
        return value if workload.combine else value.mean()

    test, metrics = {}, {}
    if _works(lambda: workload.loss(model, held_out[0]).reshape(()), model):
        test["test loss"] = Objective(model, workload.loss, held_out, calibration=training)
    alike = held_out and _form(training[0]) == _form(held_out[0])
    for part, batches in {"train": training, "test": held_out}.items():
        if (part == "test" or alike) and _works(lambda some=batches: tally(some[:1]), model):
            metrics[f"{part} {workload.metric_name}"] = Objective(
                model, measure, batches, calibration=training, combine=workload.combine
            )
    return Solutions(workload, train, test, metrics, points)


def read_weights(path: Path) -> Weights:
    """Return the weights in a file in safetensors, or a folder in the Hugging Face form.

    Raises:
        UsageError: there are none, they are damaged, or a pickle, which could run any code.
    """
    if path.suffix.lower() in PICKLES:
        raise UsageError(
            f"{path} is a pickle, which can run any code when it is read; convert it where you "
            "trust it: safetensors.torch.save_model(model, "
            f'"{path.stem}.safetensors") after model.load_state_dict(torch.load("{path.name}", '
            "weights_only=True))"
        )
    if not path.exists():
        raise UsageError(f"there is no file {path} with weights")
    return load_weights(path)


def _of_files(which: Sequence[str]) -> dict[str, Weights]:
    points: dict[str, Weights] = {}
    for text in which:
        name, separator, file = text.partition("=")
        path = Path(file if separator else text)
        name = name if separator else path.stem
        if separator and (name in ("", ".", "..") or Path(name).name != name):
            raise UsageError(
                f'"{name}" in "{text}" is no name, which files may be called by; write name=file'
            )
        if name in points:
            raise UsageError(f'two files are called "{name}"; write name=file to tell them apart')
        points[name] = read_weights(path)
    return points


def _of_race(folder: Path, which: Sequence[str]) -> tuple[str, dict[str, Weights]]:
    points: dict[str, Weights] = {}
    with Store.open(folder) as store:
        runs = [run for run in store.runs("final") if run.finished]
        sign = -1.0 if store.workload()["higher_is_better"] else 1.0
        runs.sort(key=lambda run: sign * float(run.final_metric or 0))
        for name in which:
            of = [run for run in runs if name in (run.run_id, run.entrant)]
            if not of:
                known = ", ".join(dict.fromkeys(run.entrant for run in runs))
                raise UsageError(f'no final run of "{name}" finished in {folder}; known: {known}')
            points[name] = read_weights(store.weights(of[0].run_id))
        return str(store.config()["workload"]), points


def _works(call: Callable[[], Any], model: Any) -> bool:
    """Return whether a call succeeds in evaluation mode."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            call()
    except Exception:
        return False
    finally:
        model.train(training)
    return True


def _form(batch: Any) -> Any:
    """Return what a batch is made of, but for its sizes."""
    leaves, structure = tree_flatten(batch)
    return structure, [x.dtype if isinstance(x, Tensor) else type(x) for x in leaves]


def _first(samples: int, batches: Any) -> list[Any]:
    """Return batches until they hold so many samples, or are all read."""
    found, seen = [], 0
    for batch in batches:
        found.append(batch)
        seen += sample_count(batch)
        if seen >= samples:
            break
    return found
