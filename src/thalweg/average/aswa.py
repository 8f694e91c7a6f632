"""Aggressive stochastic weight averaging, and its norm-filtered form."""

from dataclasses import dataclass

import torch
from torch import nn

from thalweg.average.kept import Point, tensors_of
from thalweg.average.running import UniformAverage, WeightedAverage
from thalweg.average.settings import Average
from thalweg.core.checks import check_whole
from thalweg.engine.distributed import local, summed
from thalweg.engine.numeric import wide


@dataclass(frozen=True)
class ASWA(Average):
    r"""The mean of the weights after every update from the first on.

    :math:`\bar w \leftarrow \bar w + (w - \bar w) / (n + 1)`, with the learning rate as it is: runs
    of several seeds then agree more. Madhyastha & Jain, "On Model Stability as a Function of Random
    Seed", CoNLL 2019, arXiv:1909.10447. The authors' code swaps model and average at the end of
    each epoch and trains on from the average; here nothing is swapped. Float buffers (batch-norm
    statistics) are averaged as weights are.

    Args:
        every: updates between two points, at least 1.
        device: see `Average`.
        precision: see `Average`.

    Raises:
        UsageError: an impossible value.
    """

    every: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole(f"{type(self).__name__.lower()}: every", self.every, least=1)

    def collects(self, step: int, steps: int) -> bool:
        """Return whether the point after a step, counted from 0, is averaged."""
        del steps
        return (step + 1) % self.every == 0

    def attach(self, model: nn.Module) -> WeightedAverage:
        """Return a running average that has no point yet."""
        return UniformAverage(self, model)


@dataclass(frozen=True)
class NASWA(ASWA):
    r"""The mean of those weights that stray further from it than the ones left out before them.

    After every ``every``-th update, with :math:`d = \|w - \bar w\|` and m the mean of the list N
    (0 while it is empty): if :math:`d > m`, w joins the mean and N becomes [d]; else, if
    :math:`d > 0`, d joins N. The first point has its distance from the initial weights. Madhyastha
    & Jain, "On Model Stability as a Function of Random Seed", CoNLL 2019, arXiv:1909.10447. The
    distance is over all parameters, as in the paper; the authors' code takes two tensors of them,
    before the update, and empties N every epoch. A distance that is NaN is taken in, so that the
    average shows it. Each look costs about three passes over the weights.

    Args:
        every: updates between two looks, at least 1.
        device: see `Average`.
        precision: see `Average`.

    Raises:
        UsageError: an impossible value.
    """

    def attach(self, model: nn.Module) -> WeightedAverage:
        """Return a running average that has no point yet."""
        return _FilteredAverage(self, model)


class _FilteredAverage(UniformAverage):
    def __init__(self, settings: NASWA, model: nn.Module) -> None:
        super().__init__(settings, model)
        self._numbers["passed"] = [0.0, 0.0]  # sum and number of the distances in N
        self._parameters = list(tensors_of(model, buffers=False))

    def _weight(self, step: int, steps: int) -> float | None:
        weight = super()._weight(step, steps)
        if weight is None:
            return None
        d = _distance(self._now(), self._points["average"], self._parameters)
        total, passed = self._numbers["passed"]
        if d <= (total / passed if passed else 0.0):
            if d > 0:
                self._numbers["passed"] = [total + d, passed + 1]
            return None
        self._numbers["passed"] = [d, 1.0]
        return weight


def _distance(one: Point, other: Point, names: list[str]) -> float:
    """Return the Euclidean distance over all processes; NaN if either point has one."""
    squares = []
    for name in names:
        x, y = local(one[name]), local(other[name])
        difference = wide(x.to(y.device)) - wide(y)
        square = torch.linalg.vector_norm(difference).double().square()
        squares.append(summed(square, other[name]).cpu())
    return float(torch.stack(squares).sum().sqrt())
