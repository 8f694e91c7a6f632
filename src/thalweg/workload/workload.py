"""What is trained: a model, data, a loss, a metric and a budget."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.workload.sources import Collate, as_source


def model_loss(model: nn.Module, batch: Any) -> Tensor:
    """Return ``model(**batch).loss``: the loss of models that compute their own.

    Raises:
        UsageError: the batch is not a mapping, or the output has no ``loss``.
    """
    if not isinstance(batch, Mapping):
        raise UsageError(
            "without a loss function a batch must be a dict, for model(**batch).loss; found "
            f"{type(batch).__name__}"
        )
    loss = getattr(model(**batch), "loss", None)
    if loss is None:
        raise UsageError(
            "model(**batch) returned no loss; put the labels into the batch, or give a loss"
        )
    return loss


@dataclass(frozen=True, kw_only=True, eq=False)
class Workload:
    """One training problem.

    Attributes:
        name: the short name, as on the command line.
        title: the name for people.
        model: builds a new, freshly initialised model; called under a seeded random stream.
        train: the training data: a tensor, a tuple or dict of tensors (samples first), a
            map-style data set, or a ``DataLoader``.
        validation: the data that the metric is computed on, of the same kinds.
        loss: ``loss(model, batch)``, the mean over the batch, a scalar that can be differentiated.
        metric: ``metric(model, batch)``, the mean over the batch or one value per sample.
        combine: ``combine(rows)``, for a metric that is no mean: makes one number of the rows that
            ``metric`` returns for each sample, joined for all of the validation data (samples,
            ...) in float64. A root mean squared error is ``lambda rows: rows.mean().sqrt()``.
        metric_name: what the metric is called.
        higher_is_better: the metric's direction.
        batch_size: samples per step.
        steps: the default budget.
        target: the metric's value that counts as solved, if one is given.
        target_origin: how the target was chosen, in words.
        evaluate_every: steps between evaluations; a twentieth of the budget if not given.
        collate: joins samples of a map-style data set.
        description: what is learnt.
        architecture: the model in words.
        loss_name: the loss in words.
        data_source: where the data come from.
        licence: the data's licence.
        source_file: the file that defines the workload, for messages about errors in it.

    Raises:
        UsageError: a value is of the wrong kind or impossible.
    """

    name: str
    title: str
    model: Callable[[], nn.Module]
    train: Any
    validation: Any
    metric: Callable[[nn.Module, Any], Any]
    metric_name: str
    higher_is_better: bool
    batch_size: int
    steps: int
    loss: Callable[[nn.Module, Any], Tensor] = model_loss
    combine: Callable[[Tensor], Any] | None = None
    target: float | None = None
    target_origin: str = ""
    evaluate_every: int | None = None
    collate: Collate | None = None
    description: str = ""
    architecture: str = ""
    loss_name: str = ""
    data_source: str = ""
    licence: str = ""
    source_file: str | None = None

    def __post_init__(self) -> None:
        for key in ("model", "loss", "metric"):
            if not callable(getattr(self, key)):
                raise UsageError(
                    f"{self.name}: {key} must be a function, found "
                    f"{type(getattr(self, key)).__name__}"
                )
        if self.combine is not None and not callable(self.combine):
            raise UsageError(
                f"{self.name}: combine must be a function of the metric's rows, found "
                f"{type(self.combine).__name__}"
            )
        for key in ("batch_size", "steps", "evaluate_every"):
            value = getattr(self, key)
            optional = key == "evaluate_every" and value is None
            if not optional and (type(value) is not int or value < 1):
                raise UsageError(f"{self.name}: {key} must be an integer from 1, found {value!r}")
        if type(self.higher_is_better) is not bool:
            raise UsageError(
                f"{self.name}: higher_is_better must be True or False, found "
                f"{self.higher_is_better!r}"
            )
        if not isinstance(self.metric_name, str) or not self.metric_name:
            raise UsageError(
                f"{self.name}: metric_name must be a word or two, found {self.metric_name!r}"
            )
        target = self.target
        number = isinstance(target, (int, float)) and not isinstance(target, bool)
        if target is not None and not (number and math.isfinite(target)):
            raise UsageError(f"{self.name}: target must be a finite number, found {target!r}")
        as_source(self.train, self.collate, f"{self.name}: training data")
        as_source(self.validation, self.collate, f"{self.name}: validation data")

    @property
    def direction(self) -> str:
        """Return ``"higher is better"`` or ``"lower is better"``."""
        return "higher is better" if self.higher_is_better else "lower is better"

    def reached(self, metric: float, target: float) -> bool:
        """Return whether a value of the metric is as good as the target; NaN never is."""
        return metric >= target if self.higher_is_better else metric <= target
