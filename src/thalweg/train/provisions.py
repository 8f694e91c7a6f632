"""What rules that look further than one batch's gradient get from the training loop."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.engine import ClosureOptimizer
from thalweg.workload import Workload
from thalweg.workload.batch import sample_count
from thalweg.workload.batches import in_order

Loss = Callable[[Any], Tensor]


def innermost(optimizer: torch.optim.Optimizer) -> Any:
    """Return the optimiser inside all wrappers."""
    current: Any = optimizer
    while (inner := getattr(current, "base", None)) is not None:
        current = inner
    return current


class Provisions:
    """The whole training set as terms of a sum, made when a rule first asks for it.

    Args:
        workload: its training data are read once, in order, and kept.
        loss: the loss of a batch, with its graph.
        device: where the batches are.
    """

    def __init__(self, workload: Workload, loss: Loss, device: torch.device) -> None:
        self._workload, self._loss, self._device = workload, loss, device

    def give(self, rule: ClosureOptimizer) -> int:
        """Provide a rule with everything that it takes; return how many batches a step may read."""
        makers: dict[str, Callable[[], Any]] = {
            "components": self._components,
            "full_closure": lambda: self._full,
            "proxy": lambda: self._proxy,
        }
        rule.provide(**{name: makers[name]() for name in rule.provisions if name in makers})
        return len(self._batches) if {"components", "full_closure"} & set(rule.provisions) else 1

    @cached_property
    def _batches(self) -> list[Any]:
        workload = self._workload
        found = in_order(workload.train, workload.batch_size, self._device, workload.collate)
        return list(found)

    def _components(self) -> list[Callable[[], Tensor]]:
        # Scaled so that the mean over batches is the mean over samples, the short batch included.
        total = sum(map(sample_count, self._batches))
        share = len(self._batches) / total
        return [
            lambda batch=batch: self._loss(batch) * (sample_count(batch) * share)
            for batch in self._batches
        ]

    def _full(self) -> Tensor:
        """Run backward batch by batch, so that no graph of the whole set is ever there."""
        terms = self._components()
        losses = []
        for term in terms:
            loss = term() / len(terms)
            if torch.is_grad_enabled():
                loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def _proxy(self) -> Tensor:
        """Return the loss of the first batch: a cheap stand-in for that of all data."""
        return self._loss(self._batches[0])


class Outputs:
    """Remembers what a network returned last, for rules that need it beside the loss."""

    def __init__(self, network: nn.Module) -> None:
        self.last: Any = None
        network.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: Any, output: Any) -> None:
        del module, inputs
        self.last = output

    def beside(self, loss: Tensor, owner: str) -> tuple[Tensor, Tensor]:
        """Return the loss with the outputs, which are let go of.

        Raises:
            UsageError: the network does not return one tensor.
        """
        outputs, self.last = self.last, None
        if not isinstance(outputs, Tensor):
            raise UsageError(
                f"{owner} needs a model that returns one tensor, from which the loss is computed; "
                f"this one returns {type(outputs).__name__}"
            )
        return loss, outputs
