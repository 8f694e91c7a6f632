"""Evaluation of a model in training, without any trace of it in the training."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.core.batch_norm import batch_norm_layers, recalibrate_batch_norm
from thalweg.core.seeds import derive_seed
from thalweg.core.streams import GlobalStream
from thalweg.engine.distributed import gathered
from thalweg.train.settings import Settings
from thalweg.train.step import autocast, needs
from thalweg.workload import Batches, Workload, in_order
from thalweg.workload.batch import sample_count
from thalweg.workload.tally import Tally

RECALIBRATION_SAMPLES = 1024


class Evaluator:
    """Computes a workload's metric at the evaluation weights.

    These are the optimiser's (``optimizer.eval()``, where it has that), then the average's, with
    batch-norm statistics recomputed on at least 1,024 training samples (fixed by the seed) if the
    average or the optimiser says that they need it. Weights, buffers, training flags and random
    streams are bit for bit as before afterwards.
    """

    def __init__(
        self,
        workload: Workload,
        model: nn.Module,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: Any,
        settings: Settings,
    ) -> None:
        self._workload = workload
        self._model = model
        self._network = network
        self._optimizer = optimizer
        self._average = average
        self._settings = settings
        self._has_batch_norm = bool(batch_norm_layers(model))
        seed = derive_seed(settings.seed, "recalibration")
        self._batches = Batches(
            workload.train, workload.batch_size, seed, settings.device, workload.collate
        )

    @contextlib.contextmanager
    def weights(self) -> Iterator[nn.Module]:
        """Put the evaluation weights in place and the model into evaluation mode."""
        stream = GlobalStream(derive_seed(self._settings.seed, "evaluation"), self._settings.device)
        with stream, _kept(self._network), contextlib.ExitStack() as stack:
            if hasattr(self._optimizer, "eval") and hasattr(self._optimizer, "train"):
                switch: Any = self._optimizer
                switch.eval()
                stack.callback(switch.train)
            if self._average is not None:
                stack.enter_context(self._average.applied(self._model))
            self._network.eval()
            if self._needs_recalibration():
                self._recalibrate()
            yield self._model

    @torch.no_grad()
    def metric(self) -> float:
        """Return the metric at the weights in place, over all validation samples in float64."""
        workload, settings = self._workload, self._settings
        tally = Tally(workload)
        for batch in in_order(
            workload.validation, workload.batch_size, settings.device, workload.collate
        ):
            with autocast(settings):
                value = workload.metric(self._network, batch)
            tally.add(value, sample_count(batch))
        return tally.result()

    def snapshot(self) -> dict[str, Tensor]:
        """Return copies of the weights and buffers in place, on the CPU."""
        return {
            name: gathered(value.detach()).cpu().clone()
            for name, value in self._model.state_dict().items()
            if isinstance(value, Tensor)
        }

    def _needs_recalibration(self) -> bool:
        if not self._has_batch_norm:
            return False
        average = self._average
        if average is not None and getattr(average, "count", 1):
            return average.needs_recalibration
        return needs(self._optimizer, "needs_recalibration")

    def _recalibrate(self) -> None:
        def batches() -> Iterator[Any]:
            seen = step = 0
            while seen < RECALIBRATION_SAMPLES:
                batch = self._batches.at(step)
                step += 1
                seen += sample_count(batch)
                yield batch

        def forward(model: nn.Module, batch: Any) -> None:
            with autocast(self._settings):
                self._workload.loss(model, batch)

        recalibrate_batch_norm(self._model, batches(), forward)


@contextlib.contextmanager
def _kept(model: nn.Module) -> Iterator[None]:
    """Put the model's weights, buffers and training flags back as they were."""
    modes = [(module, module.training) for module in model.modules()]
    # Most optimisers and averages restore the weights exactly themselves; not all do.
    tensors = [*model.parameters(), *model.buffers()]
    saved = [tensor.detach().clone() for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(tensors, saved, strict=True):
                tensor.copy_(value)
        for module, mode in modes:
            module.training = mode
