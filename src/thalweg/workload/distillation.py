"""The loss of a student that learns from a teacher alone."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from thalweg.core.batch_norm import batch_norm_layers
from thalweg.core.checks import check_flag, check_number
from thalweg.core.errors import UsageError


class Distillation:
    r"""Kullback-Leibler divergence of a student's probabilities from its teacher's, without labels.

    :math:`T^2 \sum_c p_c \log (p_c / q_c)`, meaned over samples, with
    :math:`p = softmax(z_t / T)` and :math:`q = softmax(z_s / T)`. Its gradient with respect to the
    student's logits is :math:`T (q - p)` a sample, whose scale does not fall with T. The loss of
    WAKD (Berezovskiy & Morozov, "Weight Averaging Improves Knowledge Distillation under Domain
    Shift", 2023, arXiv:2309.11446), which averages the student's weights with
    `thalweg.average.WAKD`. It takes the place of a workload's loss::

        student = dataclasses.replace(workload, loss=Distillation(teacher))

    Args:
        teacher: gives logits (n, C) for the inputs; it runs in evaluation mode, without gradients,
            and is moved to the device of its input.
        temperature: T, above 0.
        freeze_batch_norm: whether the student's batch norm uses its running statistics while it
            learns, as the authors' does.
        inputs: gives the inputs of a batch; by default its first part.

    Raises:
        UsageError: an impossible value.
    """

    def __init__(
        self,
        teacher: nn.Module,
        temperature: float = 5.0,
        *,
        freeze_batch_norm: bool = True,
        inputs: Callable[[Any], Any] | None = None,
    ) -> None:
        if not isinstance(teacher, nn.Module):
            raise UsageError(f"the teacher must be a model, found {type(teacher).__name__}")
        check_number("distillation: temperature", temperature, "(0, inf)")
        check_flag("distillation: freeze_batch_norm", freeze_batch_norm)
        self._teacher = teacher
        self._temperature = temperature
        self._freeze = freeze_batch_norm
        self._inputs = _first if inputs is None else inputs

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the mean loss of a batch, 0-d."""
        x = self._inputs(batch)
        with torch.no_grad():
            teacher = self._teacher.to(x.device).eval()
            wanted = F.log_softmax(teacher(x) / self._temperature, -1)
        # Without gradients nobody learns: statistics are being recalibrated, or it is evaluated.
        with _frozen(model, self._freeze and torch.is_grad_enabled()):
            found = F.log_softmax(model(x) / self._temperature, -1)
        divergence = F.kl_div(found, wanted, reduction="batchmean", log_target=True)
        return self._temperature**2 * divergence


def _first(batch: Any) -> Any:
    if isinstance(batch, Mapping) or not isinstance(batch, tuple | list):
        raise UsageError(
            f"distillation takes the first part of a batch as inputs, found a "
            f"{type(batch).__name__}; say where they are with inputs=lambda batch: ..."
        )
    return batch[0]


@contextmanager
def _frozen(model: nn.Module, freeze: bool) -> Iterator[None]:
    layers = [x for x in batch_norm_layers(model).values() if x.training] if freeze else []
    try:
        for layer in layers:
            layer.training = False
        yield
    finally:
        for layer in layers:
            layer.training = True
