"""What checkpoints of a run and their average are worth on a workload's data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thalweg.core.batch_norm import batch_norm_layers, recalibrate_batch_norm
from thalweg.core.checks import check_whole
from thalweg.core.errors import UsageError
from thalweg.core.seeds import derive_seed
from thalweg.core.streams import GlobalStream
from thalweg.merge.files.checkpoint import load_weights
from thalweg.train.settings import chosen_device
from thalweg.workload import Batches, in_order, load
from thalweg.workload.batch import sample_count
from thalweg.workload.check import new_model
from thalweg.workload.tally import Tally


class PointEvidence:
    """Evaluates weights of a workload on all of its validation data.

    Args:
        workload: a name, or the path of a task file.
        first: a checkpoint, by whose weights the workload's model is checked.
        samples: training samples, at least, from which batch-norm statistics are recomputed.
        device: where the model is.
        seed: of which samples.

    Raises:
        UsageError: there is no such workload, or the weights are not its model's.
    """

    def __init__(
        self, workload: str, first: Path, *, samples: int = 1024, device: str = "cpu", seed: int = 0
    ) -> None:
        check_whole("samples", samples, least=1)
        self._work, self._device = load(workload), chosen_device(device)
        with GlobalStream(derive_seed(seed, "average"), self._device):
            self._model = new_model(self._work).to(self._device)
        self._samples, self._seed = samples, derive_seed(seed, "average", "order")
        self._take(load_weights(first), str(first))

    @property
    def name(self) -> str:
        """Return what the metric is called."""
        return self._work.metric_name

    def recalibrated(self, weights: dict[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the weights with batch-norm statistics of their own; themselves without any."""
        if not batch_norm_layers(self._model):
            return weights
        self._take(weights, "the average")
        recalibrate_batch_norm(self._model, self._training(), self._work.loss)
        return {name: x.detach().cpu().clone() for name, x in self._model.state_dict().items()}

    def metric(self, path: Path) -> float:
        """Return the workload's metric at the weights in a file or folder."""
        self._take(load_weights(path), str(path))
        self._model.eval()
        work, tally = self._work, Tally(self._work)
        with torch.no_grad():
            for batch in in_order(work.validation, work.batch_size, self._device, work.collate):
                tally.add(work.metric(self._model, batch), sample_count(batch))
        return tally.result()

    def _take(self, weights: Mapping[str, Tensor], label: str) -> None:
        try:
            self._model.load_state_dict(dict(weights))
        except RuntimeError as error:
            raise UsageError(
                f"{label} has not the weights of {self._work.title}: {error}"
            ) from None

    def _training(self) -> Iterator[Any]:
        work = self._work
        batches = Batches(work.train, work.batch_size, self._seed, self._device, work.collate)
        seen = step = 0
        while seen < self._samples:
            batch = batches.at(step)
            step, seen = step + 1, seen + sample_count(batch)
            yield batch
