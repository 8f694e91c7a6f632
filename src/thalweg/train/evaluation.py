"""Evaluation of a model in training, without any trace of it in the training."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.average import Ensemble
from thalweg.core.batch_norm import batch_norm_layers, recalibrate_batch_norm
from thalweg.core.seeds import derive_seed
from thalweg.core.streams import GlobalStream
from thalweg.engine.distributed import gathered
from thalweg.train.parallel import Parallel
from thalweg.train.settings import Settings
from thalweg.train.step import autocast, needs
from thalweg.workload import Batches, Workload, in_order
from thalweg.workload.batch import sample_count
from thalweg.workload.tally import Tally

RECALIBRATION_SAMPLES = 1024
OWN: Any = object()
"""Stands for the run's own average."""


class Evaluator:
    """Computes a workload's metric at the evaluation weights.

    These are the optimiser's (``optimizer.eval()``, where it has that), then the average's, with
    batch-norm statistics recomputed on at least 1,024 training samples (fixed by the seed) if the
    average or the optimiser says that they need it. An average of predictions (one that has
    ``members``) is evaluated as the ensemble of its members, each with such statistics of its own.
    Weights, buffers, training flags and random streams are bit for bit as before afterwards.
    """

    def __init__(
        self,
        workload: Workload,
        model: nn.Module,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: Any,
        settings: Settings,
        parallel: Parallel | None = None,
    ) -> None:
        self._workload = workload
        self._parallel = parallel
        self._model = model
        self._network = network
        self._optimizer = optimizer
        self._average = average
        self._settings = settings
        self._ensemble: nn.Module | None = None
        self._has_batch_norm = bool(batch_norm_layers(model))
        seed = derive_seed(settings.seed, "recalibration")
        self._batches = Batches(
            workload.train, workload.batch_size, seed, settings.device, workload.collate
        )

    @contextlib.contextmanager
    def weights(self, average: Any = OWN) -> Iterator[nn.Module]:
        """Put the evaluation weights in place and the model into evaluation mode.

        Args:
            average: the average whose weights they are: the run's own unless given, or None.
        """
        average = self._average if average is OWN else average
        stream = GlobalStream(derive_seed(self._settings.seed, "evaluation"), self._settings.device)
        with stream, _kept(self._network), contextlib.ExitStack() as stack:
            if hasattr(self._optimizer, "eval") and hasattr(self._optimizer, "train"):
                switch: Any = self._optimizer
                switch.eval()
                stack.callback(switch.train)
            self._network.eval()
            members = average.members() if hasattr(average, "members") else None
            if members is not None:
                ready = [self._calibrated(average, member) for member in members]
                self._ensemble = Ensemble(self._model, ready, average.settings.output).eval()
                stack.callback(self._evaluate_network)
            if average is not None:
                stack.enter_context(average.applied(self._model))
            if self._needs_recalibration(average):
                self._recalibrate()
            yield self._model

    def metric_of(self, average: Any = OWN, data: Any = None) -> float:
        """Return the metric at the evaluation weights; see `weights` and `metric`."""
        with self.weights(average):
            return self.metric(data)

    def training_weights_loss(self) -> float:
        """Return the loss at the training weights, over all validation samples."""
        with self.weights(None):
            return self.loss()

    @torch.no_grad()
    def metric(self, data: Any = None) -> float:
        """Return the metric at the weights in place, over all samples in float64.

        Of several processes all return the first one's.

        Args:
            data: the samples; the validation data unless given.
        """
        tally = Tally(self._workload)
        for batch in self._in_order(self._workload.validation if data is None else data):
            with autocast(self._settings):
                value = self._workload.metric(self._ensemble or self._network, batch)
            tally.add(value, sample_count(batch))
        return self._agreed(tally.result())

    @torch.no_grad()
    def loss(self) -> float:
        """Return the mean loss at the weights in place; as `metric` otherwise."""
        total, count = 0.0, 0
        for batch in self._in_order(self._workload.validation):
            with autocast(self._settings):
                value = self._workload.loss(self._network, batch)
            total += float(value) * sample_count(batch)
            count += sample_count(batch)
        return self._agreed(total / count)

    def _agreed(self, value: float) -> float:
        return value if self._parallel is None else self._parallel.agreed(value)

    def snapshot(self) -> dict[str, Tensor]:
        """Return copies of the weights and buffers in place, on the CPU."""
        return {
            name: gathered(value.detach()).cpu().clone()
            for name, value in self._model.state_dict().items()
            if isinstance(value, Tensor)
        }

    def _in_order(self, data: Any) -> Iterator[Any]:
        workload = self._workload
        return in_order(data, workload.batch_size, self._settings.device, workload.collate)

    def _evaluate_network(self) -> None:
        self._ensemble = None

    @torch.no_grad()
    def _calibrated(self, average: Any, member: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a member of an ensemble with batch-norm statistics of its own."""
        if not (self._has_batch_norm and average.needs_recalibration):
            return member
        tensors = {**dict(self._model.named_parameters()), **dict(self._model.named_buffers())}
        for name, value in member.items():
            tensors[name].copy_(value)
        self._recalibrate()
        return {name: tensor.detach().clone() for name, tensor in tensors.items()}

    def _needs_recalibration(self, average: Any) -> bool:
        if not self._has_batch_norm:
            return False
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
