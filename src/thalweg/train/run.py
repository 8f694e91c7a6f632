"""A training run: what it consists of, and its loop."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from thalweg.core.seeds import derive_seed
from thalweg.core.streams import GlobalStream
from thalweg.train.algorithm import Parts
from thalweg.train.checkpoint import Checkpoints
from thalweg.train.evaluation import Evaluator
from thalweg.train.events import Callback, load_states, states_of
from thalweg.train.memory import PeakMemory, model_bytes, state_bytes
from thalweg.train.parallel import Parallel
from thalweg.train.record import Record
from thalweg.train.result import Point, Result, Status, best, first_reached, median_step
from thalweg.train.settings import Settings
from thalweg.train.step import Stepper
from thalweg.workload import Batches, Workload

# A step that reads more batches is not recorded: its allocations would take gigabytes themselves.
RECORDED = 256


class Run:
    """A training run as callbacks see it.

    Attributes:
        workload: what is trained.
        settings: steps, seed, device and so on.
        model: the model, at its training weights.
        optimizer: the optimiser.
        hyper: the hyper-parameters by name.
    """

    def __init__(
        self,
        workload: Workload,
        model: nn.Module,
        parts: Parts,
        settings: Settings,
        *,
        hyper: dict[str, Any],
        callbacks: tuple[Callback, ...],
        stream: GlobalStream,
        parallel: Parallel | None = None,
    ) -> None:
        self.workload = workload
        self.settings = settings
        self.model = model
        self.optimizer = parts.optimizer
        self.hyper = hyper
        self._learning_rate = parts.learning_rate
        self._average = parts.average
        self._callbacks = callbacks
        self._checkpoints: Checkpoints | None = None
        self._stream = stream
        self._parallel = parallel
        network: Any = model if parallel is None else parallel.network(model)
        network = torch.compile(network) if settings.compile else network
        self._batches = Batches(
            workload.train,
            workload.batch_size,
            derive_seed(settings.seed, "order"),
            settings.device,
            workload.collate,
        )
        self._stepper = Stepper(workload, network, self.optimizer, settings, parallel)
        # Every process evaluates alone, so without what DDP does around a forward pass.
        alone = network if parallel is None else model
        self._evaluator = Evaluator(
            workload, model, alone, self.optimizer, self._average, settings, parallel
        )
        self._record = Record()
        self._error: str | None = None
        self._weights: dict[str, torch.Tensor] = {}

    @property
    def step(self) -> int:
        """Updates done."""
        return self._record.step

    @property
    def seconds(self) -> float:
        """Training time so far."""
        return self._record.seconds

    @property
    def curve(self) -> list[Point]:
        """The evaluations so far."""
        return self._record.curve

    def keep_in(self, checkpoints: Checkpoints, resume: bool) -> None:
        """Write checkpoints; begin from the newest one there is, or remove them all.

        Raises:
            UsageError: there is a checkpoint that cannot be continued with these settings.
        """
        self._checkpoints = checkpoints
        state = checkpoints.load() if resume else None
        if self._parallel is not None:
            self._parallel.wait()  # all have looked before the first removes anything
        if state is None:
            if self._parallel is None or self._parallel.rank == 0:
                checkpoints.clear()
        else:
            self.load_state_dict(state)

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[nn.Module]:
        """Put the evaluation weights into the model while the context lasts, for callbacks."""
        with self._evaluator.weights() as model:
            yield model

    def validation_loss(self) -> float:
        """Return the workload's loss at the training weights, over all validation samples."""
        return self._evaluator.training_weights_loss()

    def training_metric(self) -> float:
        """Return the workload's metric at the training weights, over all training samples."""
        return self._evaluator.metric_of(None, self.workload.train)

    def metric_of(self, average: Any) -> float:
        """Return the workload's metric at the weights of an average of this run's model."""
        return self._evaluator.metric_of(average)

    def train(self) -> Status:
        """Run to the end, or to where the run diverges."""
        self._tell(lambda callback: callback.on_start(self))
        if self.step == self.settings.steps:
            self._collect_weights()
            return "ok"
        memory = PeakMemory(self.settings.device)
        # The second step is the first that is like the rest: it finds the optimiser's state.
        measured = min(self.step + 1, self.settings.steps - 1)
        records = self._record.peak_bytes is None and self._stepper.batches_a_step <= RECORDED
        if records:
            memory.start(self._alive())
        try:
            while self.step < self.settings.steps:
                if records and self.step == measured:
                    with memory.measured():
                        loss = self._advance()
                    self._record.peak_bytes = memory.stop()
                else:
                    loss = self._advance()
                if not self._after(loss):
                    return "diverged"
        finally:
            memory.close()
        return "ok"

    def result(self, status: Status, error: str | None = None) -> Result:
        """Return how the run went."""
        steps, seconds = first_reached(self.curve, self.workload, self.settings.target)
        ended = self.curve and self.curve[-1].step == self.settings.steps
        result = Result(
            status=status,
            steps=self.step,
            seconds=self.seconds,
            cpu_seconds=self._record.cpu_seconds,
            steps_to_target=steps,
            seconds_to_target=seconds,
            best_metric=best(self.curve, self.workload),
            final_metric=self.curve[-1].metric if ended else None,
            seconds_per_step=median_step(self._record.step_seconds),
            peak_bytes=self._record.peak_bytes,
            state_bytes=state_bytes(self.optimizer, self._average, self.model),
            curve=list(self.curve),
            hyper=dict(self.hyper),
            error=error or self._error,
            weights=self._weights if status == "ok" else {},
        )
        self._tell(lambda callback: callback.on_end(self, result))
        return result

    def _advance(self) -> float:
        """Make one step and return its training loss."""
        begin, cpu = time.perf_counter(), time.process_time()
        if self._parallel is None:
            batch = self._batches.at(self.step)
        else:
            batch = self._parallel.batch(self._batches, self.step)
        loss = self._stepper(batch)
        if self._learning_rate is not None:
            self._learning_rate.step()
        if self._average is not None:
            self._average.update(self.step, self.settings.steps)
        if self.settings.device.type != "cpu":
            torch.accelerator.synchronize(self.settings.device)
        self._record.add_step(loss, time.perf_counter() - begin, time.process_time() - cpu)
        return loss

    def _after(self, loss: float) -> bool:
        """Do what is due after a step; return whether to go on."""
        settings, step = self.settings, self.step
        for callback in self._callbacks:
            callback.on_step(self, step, loss)
        if not math.isfinite(loss):
            self._error = f"the training loss was {loss} at step {step}"
            self._add_point(math.nan, loss)
            return False
        last = step == settings.steps
        if last or step % settings.evaluate_every == 0:
            if getattr(self._average, "monitors", False) and not self._told(self._average):
                return False
            with self._evaluator.weights():
                metric = self._evaluator.metric()
                if last:
                    self._weights = self._evaluator.snapshot()
            self._add_point(metric)
            if not math.isfinite(metric):
                self._error = f"the {self.workload.metric_name} was {metric} at step {step}"
                return False
        if self._checkpoints is not None and (last or step % settings.checkpoint_every == 0):
            path = self._save(self._checkpoints)
            self._tell(lambda callback: callback.on_checkpoint(self, path))
        return True

    def _told(self, average: Any) -> bool:
        """Tell an average the validation loss of the training weights; return whether it is one."""
        loss = self.validation_loss()
        if not math.isfinite(loss):
            self._error = f"the validation loss was {loss} at step {self.step}"
            self._add_point(math.nan)
            return False
        average.evaluated(loss)
        return True

    def _save(self, checkpoints: Checkpoints) -> Path:
        if self._parallel is None or self._parallel.rank == 0:
            path = checkpoints.save(self.step, self.state_dict())
        else:
            path = checkpoints.path(self.step)
        if self._parallel is not None:
            self._parallel.wait()
        return path

    def _add_point(self, metric: float, train_loss: float | None = None) -> None:
        point = self._record.add_point(metric, train_loss)
        self._tell(lambda callback: callback.on_evaluate(self, point))

    def _collect_weights(self) -> None:
        with self._evaluator.weights():
            self._weights = self._evaluator.snapshot()

    def _alive(self) -> int:
        return model_bytes(self.model) + state_bytes(self.optimizer, self._average, self.model)

    def _tell(self, event: Callable[[Callback], None]) -> None:
        if self._callbacks:
            with GlobalStream(derive_seed(self.settings.seed, "callbacks")):
                for callback in self._callbacks:
                    event(callback)

    def state_dict(self) -> dict[str, Any]:
        """Return all that the rest of the run depends on."""
        return {
            "parameters": dict(self.model.named_parameters()),
            "buffers": dict(self.model.named_buffers()),
            "optimizer": self.optimizer.state_dict(),
            "learning_rate": _state_of(self._learning_rate),
            "average": _state_of(self._average),
            "scaler": _state_of(self._stepper.scaler),
            "stream": self._stream.state_dict(),
            **self._record.state_dict(),
            "callbacks": states_of(self._callbacks),
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        for own, saved in (
            (dict(self.model.named_parameters()), state["parameters"]),
            (dict(self.model.named_buffers()), state["buffers"]),
        ):
            for name, tensor in own.items():
                tensor.copy_(saved[name])
        self.optimizer.load_state_dict(state["optimizer"])
        if self._learning_rate is not None:
            self._learning_rate.load_state_dict(state["learning_rate"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        if self._stepper.scaler is not None:
            self._stepper.scaler.load_state_dict(state["scaler"])
        self._stream.load_state_dict(state["stream"])
        self._record.load_state_dict(state)
        load_states(self._callbacks, self, state.get("callbacks", {}))


def _state_of(part: Any) -> Any:
    return None if part is None else part.state_dict()
