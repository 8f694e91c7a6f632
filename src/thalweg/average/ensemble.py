"""The mean of the predictions of several points of a model."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from thalweg.average.kept import check_not_sharded, plain
from thalweg.core.checks import check_choice
from thalweg.core.errors import UsageError
from thalweg.core.shares import check_weights, shares


class Ensemble(nn.Module):
    r"""A model that predicts by the mean of several points of its weights.

    From ``"logits"`` :math:`z_i` along the last axis it makes
    :math:`\log \sum_i \alpha_i \, \mathrm{softmax}(z_i)`, log-probabilities, which serve every loss
    and metric that takes logits, computed without leaving logarithms; ``"values"`` :math:`y_i` are
    averaged themselves, :math:`\sum_i \alpha_i y_i`. It costs a forward pass a point, and is the
    ceiling that averages and merges are compared with. For a model that is linear in its weights,
    the mean of values is the value of the mean.

    Args:
        model: runs every point, in the mode (training or evaluation) that it is in; its own weights
            stay as they are.
        points: weights by name, as of ``state_dict``, with buffers where they belong to the point;
            brought to the model's device and precision, and not copied where they are there.
        output: what the model returns.
        weights: one number of at least 0 a point, :math:`\alpha_i` but for their sum; equal unless
            given.

    Raises:
        UsageError: no point, one with a name that the model has not, impossible weights, or a
            model that is sharded over processes.
    """

    def __init__(
        self,
        model: nn.Module,
        points: Iterable[Mapping[str, Tensor]],
        output: Literal["logits", "values"] = "logits",
        *,
        weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        check_choice("ensemble: output", output, ("logits", "values"))
        weights = check_weights("ensemble: weights", weights)
        self.model = getattr(model, "_orig_mod", model)
        own = _places(self.model)
        check_not_sharded("an ensemble", {name: x for name, (_, x) in own.items()})
        self._points: list[dict[str, Tensor]] = []
        for point in points:
            unknown = [name for name in point if name not in own]
            if unknown:
                raise UsageError(f'the model of the ensemble has no "{unknown[0]}"')
            self._points.append(
                {
                    own[name][0]: x.detach().to(own[name][1].device, own[name][1].dtype)
                    for name, x in point.items()
                }
            )
        if not self._points:
            raise UsageError("an ensemble needs one point at least, found none")
        if weights is not None and len(weights) != len(self._points):
            raise UsageError(
                f"an ensemble needs one weight a point, found {len(weights)} weights for "
                f"{len(self._points)} points"
            )
        self._shares = shares(weights, len(self._points))
        self._output = output

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the mean of the points' predictions for one input of the model."""
        parts = []
        for point, share in zip(self._points, self._shares, strict=True):
            if share:
                out = torch.func.functional_call(self.model, point, args, kwargs)
                values = self._output == "values"
                parts.append(out * share if values else out.log_softmax(-1) + math.log(share))
        stacked = torch.stack(parts)
        return stacked.sum(0) if self._output == "values" else stacked.logsumexp(0)


def _places(model: nn.Module) -> dict[str, tuple[str, Tensor]]:
    """Return by every name that a tensor goes by its first one, as the model has it, and itself."""
    first: dict[int, str] = {}
    found: dict[str, tuple[str, Tensor]] = {}
    for name, x in (
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ):
        found[plain(name)] = (first.setdefault(id(x), name), x)
    return found
