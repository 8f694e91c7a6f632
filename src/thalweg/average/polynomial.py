"""Averaging with polynomial decay."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from thalweg.average.running import WeightedAverage
from thalweg.average.settings import Average
from thalweg.core.checks import check_number, check_whole


@dataclass(frozen=True)
class PolynomialDecay(Average):
    r"""A mean of the weights along the run in which later points weigh more, by a power of time.

    The :math:`t`-th point (from 1) is taken in by
    :math:`\bar w \leftarrow \bar w + \frac{1 + \gamma}{t + \gamma} (w - \bar w)`, so that after
    :math:`T` points the one at :math:`t` weighs about
    :math:`(1 + \gamma) t^\gamma / T^{1 + \gamma}`: the mean is one over about the last
    :math:`1 / (1 + \gamma)` of the run, however long that has become. With :math:`\gamma = 0` it
    is the uniform mean. Float buffers (batch-norm statistics) are averaged as weights are, integer
    buffers copied. When to use: with a learning rate that does not decay, above all `DoG`, when
    the run's length is not known. Shamir & Zhang,
    "Stochastic Gradient Descent for Non-smooth Optimization", ICML 2013, arXiv:1212.1824; with
    :math:`\gamma = 8` the average that DoG's authors evaluate (arXiv:2302.12022).

    Args:
        gamma: :math:`\gamma \ge 0`.
        every: updates between two points of the average, at least 1.
        device: see `Average`.
        precision: see `Average`.

    Raises:
        UsageError: an impossible value.
    """

    gamma: float = 8.0
    every: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("polynomial-decay: gamma", self.gamma, "[0, inf)")
        check_whole("polynomial-decay: every", self.every, least=1)

    def attach(self, model: nn.Module) -> WeightedAverage:
        """Return a running average that has no point yet."""
        return _PolynomialAverage(self, model)


class _PolynomialAverage(WeightedAverage):
    needs_recalibration: ClassVar[bool] = False
    averages_buffers: ClassVar[bool] = True

    def _weight(self, step: int, steps: int) -> float | None:
        del steps
        if (step + 1) % self.settings.every:
            return None
        gamma = self.settings.gamma
        return (1 + gamma) / (self.count + 1 + gamma)
