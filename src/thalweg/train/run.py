"""A training run: what it consists of, and its loop."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from thalweg.core.errors import UsageError
from thalweg.core.seeds import derive_seed
from thalweg.core.streams import GlobalStream
from thalweg.train.algorithm import Parts
from thalweg.train.checkpoint import Checkpoints
from thalweg.train.evaluation import Evaluator
from thalweg.train.events import Callback
from thalweg.train.memory import PeakMemory, model_bytes, state_bytes
from thalweg.train.parallel import Parallel
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
        step: updates done.
        seconds: training time so far.
        curve: the evaluations so far.
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
        self.step = 0
        self.seconds = 0.0
        self.curve: list[Point] = []
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
        self._evaluator = Evaluator(workload, model, alone, self.optimizer, self._average, settings)
        self._cpu_seconds = 0.0
        self._step_seconds: list[float] = []
        self._loss_sum, self._loss_count = 0.0, 0
        self._peak_bytes: int | None = None
        self._error: str | None = None
        self._weights: dict[str, torch.Tensor] = {}

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
        with self._evaluator.weights(None):
            loss = self._evaluator.loss()
        return loss if self._parallel is None else self._parallel.agreed(loss)

    def training_metric(self) -> float:
        """Return the workload's metric at the training weights, over all training samples."""
        with self._evaluator.weights(None):
            metric = self._evaluator.metric(self.workload.train)
        return metric if self._parallel is None else self._parallel.agreed(metric)

    def metric_of(self, average: Any) -> float:
        """Return the workload's metric at the weights of an average of this run's model."""
        with self._evaluator.weights(average):
            metric = self._evaluator.metric()
        return metric if self._parallel is None else self._parallel.agreed(metric)

    def train(self) -> Status:
        """Run to the end, or to where the run diverges."""
        self._tell(lambda callback: callback.on_start(self))
        if self.step == self.settings.steps:
            self._collect_weights()
            return "ok"
        memory = PeakMemory(self.settings.device)
        # The second step is the first that is like the rest: it finds the optimiser's state.
        measured = min(self.step + 1, self.settings.steps - 1)
        records = self._peak_bytes is None and self._stepper.batches_a_step <= RECORDED
        if records:
            memory.start(self._alive())
        try:
            while self.step < self.settings.steps:
                if records and self.step == measured:
                    with memory.measured():
                        loss = self._advance()
                    self._peak_bytes = memory.stop()
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
            cpu_seconds=self._cpu_seconds,
            steps_to_target=steps,
            seconds_to_target=seconds,
            best_metric=best(self.curve, self.workload),
            final_metric=self.curve[-1].metric if ended else None,
            seconds_per_step=median_step(self._step_seconds),
            peak_bytes=self._peak_bytes,
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
        seconds = time.perf_counter() - begin
        self._cpu_seconds += time.process_time() - cpu
        self.step += 1
        self.seconds += seconds
        self._step_seconds.append(seconds)
        self._loss_sum += loss
        self._loss_count += 1
        return loss

    def _after(self, loss: float) -> bool:
        """Do what is due after a step; return whether to go on."""
        settings, step = self.settings, self.step
        for callback in self._callbacks:
            callback.on_step(self, step, loss)
        if not math.isfinite(loss):
            self._error = f"the training loss was {loss} at step {step}"
            self._add_point(loss, math.nan)
            return False
        last = step == settings.steps
        if last or step % settings.evaluate_every == 0:
            if getattr(self._average, "monitors", False) and not self._told(self._average):
                return False
            with self._evaluator.weights():
                metric = self._evaluator.metric()
                if self._parallel is not None:
                    metric = self._parallel.agreed(metric)
                if last:
                    self._weights = self._evaluator.snapshot()
            self._add_point(self._loss_sum / self._loss_count, metric)
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
            self._add_point(self._loss_sum / self._loss_count, math.nan)
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

    def _add_point(self, train_loss: float, metric: float) -> None:
        point = Point(self.step, self.seconds, train_loss, metric)
        self.curve.append(point)
        self._loss_sum, self._loss_count = 0.0, 0
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
            "step": self.step,
            "seconds": self.seconds,
            "cpu_seconds": self._cpu_seconds,
            "step_seconds": torch.tensor(self._step_seconds, dtype=torch.float64),
            "loss": (self._loss_sum, self._loss_count),
            "peak_bytes": self._peak_bytes,
            "curve": [(p.step, p.seconds, p.train_loss, p.metric) for p in self.curve],
            "callbacks": {c.key: c.state_dict() for c in self._callbacks if c.key is not None},
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
        self.step = state["step"]
        self.seconds = state["seconds"]
        self._cpu_seconds = state["cpu_seconds"]
        self._step_seconds = state["step_seconds"].tolist()
        self._loss_sum, self._loss_count = state["loss"]
        self._peak_bytes = state["peak_bytes"]
        self.curve = [Point(*point) for point in state["curve"]]
        saved = state.get("callbacks", {})
        for callback in self._callbacks:
            if callback.key is None:
                continue
            if callback.key not in saved:
                raise UsageError(
                    f"the checkpoint was made without {callback.key}, which cannot begin in the "
                    "middle of a run; leave it out, or start over in another folder"
                )
            callback.load_state_dict(self, saved[callback.key])


def _state_of(part: Any) -> Any:
    return None if part is None else part.state_dict()
