"""A running average of a model's weights: kept beside it, swapped in, restored, saved."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from thalweg.core.checks import check_whole
from thalweg.core.errors import UsageError
from thalweg.engine.distributed import like, local

_LOW_PRECISION = (torch.bfloat16, torch.float16)


class RunningAverage(ABC):
    """The average so far of the weights that a model has passed through.

    Weights of 16 bits are averaged in float32, where a step of a thousandth does not vanish.
    Sharded weights (DTensor) stay sharded.

    Attributes:
        count: points averaged so far.
        needs_recalibration: whether batch-norm statistics belong to other weights once the
            average is in place; recompute them with `recalibrate_batch_norm`.

    Args:
        model: the model to follow; its weights are read at every update.

    Raises:
        UsageError: the model has parameters without a shape yet.
    """

    needs_recalibration: ClassVar[bool]
    averages_buffers: ClassVar[bool]

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.count = 0
        followed = self._followed(model)
        for name, x in followed.items():
            if is_lazy(x):
                raise UsageError(
                    f'"{name}" has no shape yet, so it cannot be averaged; run one batch through '
                    "the model first"
                )
        self._average = {
            name: x.detach().to(torch.float32) if x.dtype in _LOW_PRECISION else x.detach().clone()
            for name, x in followed.items()
        }

    @abstractmethod
    def _weight(self, step: int, steps: int) -> float | None:
        """Return the weight of the model's point after this step, or None to pass it by."""

    @torch.no_grad()
    def update(self, step: int, steps: int) -> None:
        """Take in the model's weights; call after every update of the optimiser.

        Args:
            step: the step, from 0, whose update the weights come from.
            steps: updates of the whole run.

        Raises:
            UsageError: the numbers make no sense, or the model's parameters are not those it had.
        """
        check_whole("average: steps", steps, least=1)
        check_whole("average: step", step, least=0)
        weight = self._weight(step, steps)
        if weight is None:
            return
        followed = self._matched(self._model)
        averages, points = [], []
        for name, average in self._average.items():
            average, point = local(average), local(followed[name])
            if weight == 1 or not _is_averaged(average):
                average.copy_(point)
            else:
                averages.append(average)
                points.append(point if point.dtype == average.dtype else point.to(average.dtype))
        if averages:
            torch._foreach_lerp_(averages, points, weight)
        self.count += 1

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[nn.Module]:
        """Put the average in place of the model's weights while the context lasts.

        On the way out, after errors too, the weights and all buffers are bit for bit what they
        were, so that batch norm may be recalibrated inside. Before the first point was taken in,
        the model keeps its own weights.

        Args:
            model: the model, or another with the same names and shapes.

        Raises:
            UsageError: the model has other parameters; it is unchanged.
        """
        followed = self._matched(model)
        touched = {**followed, **_buffers(model)}
        saved = {name: x.detach().clone() for name, x in touched.items()}
        try:
            if self.count:
                with torch.no_grad():
                    for name, x in followed.items():
                        local(x).copy_(local(self._average[name]))
            yield model
        finally:
            with torch.no_grad():
                for name, x in {**self._followed(model), **_buffers(model)}.items():
                    local(x).copy_(local(saved[name]))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the average and its count as plain tensors by name; not copies."""
        averages = {f"average.{name}": x for name, x in self._average.items()}
        return {"count": torch.tensor(self.count), **averages}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` returned, bit for bit.

        Raises:
            UsageError: the names or shapes are not this model's; nothing has changed then.
        """
        if "count" not in state_dict:
            raise UsageError('this is no state of an average: it has no "count"')
        saved = {key.removeprefix("average."): x for key, x in state_dict.items() if key != "count"}
        _check_match("the saved average", saved, "the model", self._average)
        for name, x in self._average.items():
            local(x).copy_(local(like(saved[name], x)))
        self.count = int(state_dict["count"])

    def _followed(self, model: nn.Module) -> dict[str, Tensor]:
        followed: dict[str, Tensor] = {_plain(name): p for name, p in model.named_parameters()}
        if self.averages_buffers:
            followed.update(_buffers(model))
        return followed

    def _matched(self, model: nn.Module) -> dict[str, Tensor]:
        followed = self._followed(model)
        _check_match("the model", followed, "the average", self._average)
        return followed


def _buffers(model: nn.Module) -> dict[str, Tensor]:
    return {_plain(name): x for name, x in model.named_buffers()}


def _plain(name: str) -> str:
    # torch.compile wraps modules; an average outlives the choice to compile.
    return name.replace("_orig_mod.", "")


def _is_averaged(x: Tensor) -> bool:
    return x.is_floating_point() or x.is_complex()


def _check_match(
    this: str, found: dict[str, Tensor], that: str, expected: dict[str, Tensor]
) -> None:
    if found.keys() != expected.keys():
        missing = [name for name in expected if name not in found]
        extra = [name for name in found if name not in expected]
        raise UsageError(
            f"{this} does not match {that}: "
            + " and ".join(
                f"{verb} {_some(names)}"
                for verb, names in (("it lacks", missing), ("it has besides", extra))
                if names
            )
            + "; use the model that the average was made for"
        )
    for name, x in expected.items():
        if found[name].shape != x.shape:
            raise UsageError(
                f'{this} does not match {that}: "{name}" has shape {tuple(found[name].shape)} '
                f"where {tuple(x.shape)} is expected"
            )


def _some(names: list[str]) -> str:
    listed = ", ".join(f'"{name}"' for name in names[:3])
    return listed + (f" and {len(names) - 3} more" if len(names) > 3 else "")
