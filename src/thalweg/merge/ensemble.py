"""Ensembles of outputs: the ceiling that merges are compared with."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from thalweg.core.checks import check_choice
from thalweg.core.errors import UsageError
from thalweg.merge.method import Weights, check_weights, shares


class Ensemble(nn.Module):
    r"""The mean of the members' outputs.

    "probabilities": :math:`\log \sum_i \alpha_i softmax(f(x; w_i))`, log-probabilities, which
    serve every loss and metric that takes logits. "outputs": :math:`\sum_i \alpha_i f(x; w_i)`.
    It costs as many forward passes as it has members. For a model linear in its weights the mean
    of outputs is the output of the mean.

    Args:
        model: runs every member; its own weights are not changed.
        members: weights, as of ``state_dict``; not copied.
        of: what is averaged.
        weights: :math:`\alpha_i \ge 0`, one a member; equal unless given.

    Raises:
        UsageError: no member, or impossible settings.
    """

    def __init__(
        self,
        model: nn.Module,
        members: Sequence[Weights],
        *,
        of: Literal["probabilities", "outputs"] = "probabilities",
        weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        check_choice("ensemble: of", of, ("probabilities", "outputs"))
        weights = check_weights("weights", weights)
        if not members or (weights is not None and len(weights) != len(members)):
            raise UsageError("an ensemble needs members, and one weight for each if any are given")
        self.model = model
        self._members = list(members)
        self._of = of
        self._shares = shares(weights, len(members))

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the mean of the members' outputs."""
        total: Tensor | None = None
        for weights, share in zip(self._members, self._shares, strict=True):
            out = torch.func.functional_call(self.model, dict(weights), args, kwargs)
            part = (torch.softmax(out, -1) if self._of == "probabilities" else out) * share
            total = part if total is None else total + part
        assert total is not None
        return total.log() if self._of == "probabilities" else total
