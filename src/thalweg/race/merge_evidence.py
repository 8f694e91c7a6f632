"""What merges choose and weigh by, measured on a workload's data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.core.batch_norm import recalibrate_batch_norm
from thalweg.core.errors import UsageError
from thalweg.merge.method import Evidence, Merge, Weights
from thalweg.merge.statistics import fisher_diagonal, input_grams
from thalweg.race.solutions import open_solutions
from thalweg.workload import in_order
from thalweg.workload.batch import sample_count
from thalweg.workload.tally import Tally


@dataclass(frozen=True)
class OnWorkload:
    """A merge's evidence, and statistics of every model and of the base, if it needs any."""

    evidence: Evidence
    statistics: list[dict[str, Tensor]] | None = None
    base_statistics: dict[str, Tensor] | None = None


def evidence_on(
    workload: str,
    method: Merge,
    models: Sequence[str],
    base: str | None = None,
    *,
    samples: int = 512,
    device: str = "cpu",
    seed: int = 0,
) -> OnWorkload:
    """Measure what a merge needs to know on a workload's data.

    The score is the workload's metric on all of its validation data, with batch-norm statistics
    recomputed on training samples, so that higher is better; the objective is the loss on
    validation samples; Fisher diagonals and Gram matrices are taken on training samples, at each
    model's weights.

    Args:
        workload: a name, or the path of a task file.
        method: the merge.
        models: paths of the models' weights.
        base: that of the base.
        samples: training samples, and validation samples of the objective, at least.
        device: where the model is.
        seed: of which training samples.

    Raises:
        UsageError: weights that are not the workload's.
    """
    paths = [*models, *([base] if base is not None else [])]
    which = [f"{place}={path}" for place, path in enumerate(paths)]
    found = open_solutions(workload, which, samples=samples, device=device, seed=seed)
    held_out = next(iter(found.test.values()), None)
    if method.chooses == "objective" and held_out is None:
        raise UsageError(
            f"{workload} has no loss on validation data, which {type(method).__name__} chooses by"
        )
    module = found.train.module

    def score(weights: Weights) -> float:
        work = found.workload
        module.load_state_dict(dict(weights))
        recalibrate_batch_norm(module, found.train.batches, work.loss)
        module.eval()
        tally = Tally(work)
        with torch.no_grad():
            for batch in in_order(
                work.validation, work.batch_size, torch.device(device), work.collate
            ):
                tally.add(work.metric(module, batch), sample_count(batch))
        return tally.result() * (1 if work.higher_is_better else -1)

    evidence = Evidence(score, held_out)
    if method.needs_statistics is None:
        return OnWorkload(evidence)
    measure = fisher_diagonal if method.needs_statistics == "fisher" else input_grams
    measured = [measure(found.train, weights) for weights in found.points.values()]
    return OnWorkload(evidence, measured[: len(models)], (measured[len(models) :] or [None])[0])
