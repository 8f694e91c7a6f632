"""One training step: the gradient of a batch, by micro-batches, and the update."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.engine import ClosureOptimizer
from thalweg.train.parallel import Parallel
from thalweg.train.provisions import Outputs, Provisions, innermost
from thalweg.train.settings import PRECISIONS, Settings
from thalweg.workload import Workload
from thalweg.workload.batch import sample_count, split
from thalweg.workload.check import check_loss


def autocast(settings: Settings) -> AbstractContextManager[Any]:
    """Return the context in which the model runs: automatic mixed precision, or nothing."""
    if settings.precision == "float32":
        return nullcontext()
    return torch.autocast(settings.device.type, PRECISIONS[settings.precision])


class Stepper:
    r"""Makes training steps.

    With ``accumulate`` micro-batches of :math:`n_i` of the batch's n samples, the gradient is that
    of :math:`\sum_i (n_i / n) L_i`, which is the full batch's up to rounding (batch norm sees
    micro-batches, though). Every step calls ``optimizer.step(closure)``, where the closure
    computes the gradient of the same batch anew, so optimisers that look twice work; the loss of a
    step is that of the first look. In float16 the loss is scaled, the gradient unscaled before the
    update, and an update whose gradient overflowed is left out (``torch.amp.GradScaler``), which
    rules such optimisers out.

    A rule that evaluates its closure itself (`thalweg.engine.ClosureOptimizer`) gets one that
    returns the loss with its graph, and the model's outputs, the whole training set or a cheaper
    loss where it asks for them.

    Of several processes each steps with its share of the batch (`thalweg.train.parallel`).

    Raises:
        UsageError: an optimiser that needs a closure in float16, or micro-batches with one that
            needs the model's outputs.
    """

    def __init__(
        self,
        workload: Workload,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        settings: Settings,
        parallel: Parallel | None = None,
    ) -> None:
        self.scaler: torch.amp.GradScaler | None = None
        if settings.precision == "float16":
            if needs(optimizer, "needs_closure") or isinstance(optimizer, torch.optim.LBFGS):
                raise UsageError(
                    f"{type(optimizer).__name__} computes the gradient more than once in a step, "
                    'which the scaled loss of float16 does not allow; use precision="bfloat16" '
                    'or "float32"'
                )
            self.scaler = torch.amp.GradScaler(settings.device.type)
        self._workload = workload
        self._network = network
        self._optimizer: Any = optimizer
        self._settings = settings
        self._parameters = list(network.parameters())
        self._checked = False
        self._parallel = parallel
        rule = innermost(optimizer)
        self._rule: ClosureOptimizer | None = None
        self.batches_a_step = 1
        if isinstance(rule, ClosureOptimizer):
            if parallel is not None:
                raise UsageError(
                    f"{type(rule).__name__} differentiates the loss itself, which DDP and FSDP2 do "
                    "not allow; run it in one process, or choose a rule that reads the gradient"
                )
            self._rule = rule
            provisions = Provisions(workload, self._loss, settings.device)
            self.batches_a_step = provisions.give(rule)
            if rule.needs_outputs and settings.accumulate > 1:
                raise UsageError(
                    f"{type(rule).__name__} needs the model's outputs for the whole batch at once; "
                    "use accumulate=1"
                )
        # Such a rule knows which of the terms it was given it has seen, and draws the next itself.
        taken = self._rule.provisions if self._rule else {}
        self._draws = "components" in taken and "full_closure" not in taken
        self._outputs = Outputs(network) if self._rule and self._rule.needs_outputs else None

    def __call__(self, batch: Any) -> float:
        """Make one step and return the batch's loss before it.

        Raises:
            UsageError: the loss is no scalar with a gradient.
        """
        losses: list[Tensor] = []

        def closure() -> Any:
            if self._rule is not None:
                found = self._graph(batch)
                losses.append((found[0] if isinstance(found, tuple) else found).detach())
                return found
            losses.append(self._gradient(batch))
            return losses[-1]

        if self._draws:
            losses.append(self._optimizer.step())
        elif self.scaler is None:
            self._optimizer.step(closure)
        else:
            closure()
            self.scaler.step(self._optimizer)
            self.scaler.update()
        if not losses:
            raise UsageError(
                f"{type(self._optimizer).__name__}.step(closure) did not call the closure; an "
                "optimiser must call it to get the loss and the gradient, as torch's do"
            )
        return float(losses[0])

    def _gradient(self, batch: Any) -> Tensor:
        for parameter in self._parameters:
            parameter.grad = None
        if self._parallel is not None:
            with self._parallel.drawing():
                loss = self._gradient_of(batch, self._parallel.weight)
            return self._parallel.mean(loss)
        return self._gradient_of(batch, 1.0)

    def _gradient_of(self, batch: Any, weight: float) -> Tensor:
        if self._settings.accumulate == 1:
            return self._backward(batch, weight)
        parts = split(batch, self._settings.accumulate)
        count = sample_count(batch)
        losses = [self._backward(one, weight * sample_count(one) / count) for one in parts]
        return torch.stack(losses).sum()

    def _graph(self, batch: Any) -> Any:
        """Return the loss with its graph, and with the model's outputs if the rule needs them."""
        if self._outputs is not None:
            return self._outputs.beside(self._loss(batch), type(self._rule).__name__)
        if self._settings.accumulate == 1:
            return self._loss(batch)
        count = sample_count(batch)
        parts = split(batch, self._settings.accumulate)
        return torch.stack([self._loss(one) * (sample_count(one) / count) for one in parts]).sum()

    def _loss(self, batch: Any) -> Tensor:
        with autocast(self._settings):
            loss = self._workload.loss(self._network, batch)
        if not self._checked and torch.is_grad_enabled():
            check_loss(self._workload, loss)
            self._checked = True
        return loss

    def _backward(self, batch: Any, share: float) -> Tensor:
        loss = self._loss(batch)
        loss = loss if share == 1 else loss * share
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        return loss.detach()


def needs(optimizer: torch.optim.Optimizer, attribute: str) -> bool:
    """Return whether an optimiser, or one that it wraps (``base``), has a flag set."""
    current: Any = optimizer
    while current is not None:
        if getattr(current, attribute, False):
            return True
        current = getattr(current, "base", None)
    return False
