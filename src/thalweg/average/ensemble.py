"""The mean of the predictions of several points of a model."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from thalweg.average.kept import plain
from thalweg.core.checks import check_choice
from thalweg.core.errors import UsageError


class Ensemble(nn.Module):
    r"""A model that predicts by the mean of several points of its weights.

    From ``"logits"`` :math:`z_i` along the last axis it makes
    :math:`\log \tfrac{1}{M} \sum_i \mathrm{softmax}(z_i)`, log-probabilities, which serve every
    loss and metric that takes logits; ``"values"`` are averaged themselves. It costs a forward pass
    a point. For a model that is linear in its weights, the mean of values is the value of the mean.

    Args:
        model: runs every point, in the mode (training or evaluation) that it is in; its own weights
            stay as they are.
        points: weights by name, with buffers where they belong to the point; brought to the model's
            device and precision, and not copied where they are there.
        output: what the model returns.

    Raises:
        UsageError: there is no point, or one has a name that the model has not.
    """

    def __init__(
        self,
        model: nn.Module,
        points: Iterable[Mapping[str, Tensor]],
        output: Literal["logits", "values"] = "logits",
    ) -> None:
        super().__init__()
        check_choice("ensemble: output", output, ("logits", "values"))
        self.model = getattr(model, "_orig_mod", model)
        own = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        own = {plain(name): (name, x) for name, x in own.items()}
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
        self._output = output

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the mean of the points' predictions for one input of the model."""
        outputs = [
            torch.func.functional_call(self.model, point, args, kwargs) for point in self._points
        ]
        if self._output == "values":
            return torch.stack(outputs).mean(0)
        logs = torch.stack([out.log_softmax(-1) for out in outputs])
        return logs.logsumexp(0) - torch.tensor(float(len(outputs))).log().item()
