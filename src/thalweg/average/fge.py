"""Fast geometric ensembling: one run's cycles give the members of an ensemble."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from thalweg.average.kept import Point, check_not_sharded
from thalweg.average.running import RunningAverage
from thalweg.average.settings import Average
from thalweg.core.checks import check_choice, check_number, check_whole
from thalweg.core.cycles import Cycles


@dataclass(frozen=True)
class FGE(Average):
    r"""The ensemble of the models in the middle of each cycle of a triangular learning rate.

    To be used with the schedule `Triangular` of the same ``start`` and ``cycles``: the learning
    rate falls to its lowest in the middle of each cycle, where the weights and batch-norm
    statistics are copied. Evaluated is the mean of the members' probabilities (before the first,
    the model); it costs a forward pass a member. As weights stand those of the latest member.
    Garipov et al., "Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs", NeurIPS 2018,
    arXiv:1802.10026: cycles of 2 to 4 epochs from 80 % of a budget on.

    Args:
        start: where the cycles start, as a share of the run in [0, 1].
        cycles: how many, each with a member; at least 1.
        output: whether the model's outputs are ``"logits"`` along their last axis, whose
            probabilities are averaged, or ``"values"``, which are averaged themselves.
        device: see `Average`.
        precision: see `Average`.

    Raises:
        UsageError: an impossible value; when it is attached, a model sharded over processes.
    """

    of_predictions: ClassVar[bool] = True

    start: float = 0.75
    cycles: int = 5
    output: Literal["logits", "values"] = "logits"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("fge: start", self.start, "[0, 1]")
        check_whole("fge: cycles", self.cycles, least=1)
        check_choice("fge: output", self.output, ("logits", "values"))

    def attach(self, model: nn.Module) -> RunningAverage:
        """Return an ensemble that has no member yet."""
        return _Members(self, model)


class _Members(RunningAverage):
    needs_recalibration: ClassVar[bool] = False
    averages_buffers: ClassVar[bool] = True
    rows = ("member",)

    def __init__(self, settings: FGE, model: nn.Module) -> None:
        super().__init__(settings, model)
        check_not_sharded("fge", self._now())

    def _update(self, step: int, steps: int) -> None:
        if Cycles(self.settings.start, self.settings.cycles).is_middle(step, steps):
            self._points[f"member-{self.count}"] = self._snapshot()
            self.count += 1

    def _current(self) -> Point:
        return self._points[f"member-{self.count - 1}"]

    def members(self) -> Iterator[Point] | None:
        """Return the members, oldest first; not copies."""
        return (self._points[name] for name in self._row("member")) if self.count else None
