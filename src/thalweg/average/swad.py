"""The dense average over the window that the validation loss prescribes."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from thalweg.average.kept import Point, blend
from thalweg.average.nt_asgd import check_loss
from thalweg.average.running import RunningAverage
from thalweg.average.settings import Average
from thalweg.core.checks import check_number, check_whole


@dataclass(frozen=True)
class SWAD(Average):
    r"""The mean of every iterate from where the validation loss stops falling to where it rises.

    With the losses :math:`l_i` of the training weights at the evaluations:

    - the start is the first evaluation i with :math:`l_i = \min(l_i, ..., l_{i+N_s-1})`;
    - the threshold is :math:`(1 + r)` times the mean of these :math:`N_s` losses;
    - the end is the evaluation before the first :math:`N_e` in a row that all lie above it.

    The average is of all iterates from that of the start to that of the end, both included; to the
    last one if no end is found. Until a start is found the model stands for its average. After the
    end the average stays as it is, though a training loop goes on. Cha et al., "SWAD: Domain
    Generalization by Seeking Flat Minima", NeurIPS 2021, arXiv:2102.08604, who evaluate every 50 to
    500 steps. The authors' code also takes the iterates between the start and the evaluation before
    it, looks back further where :math:`N_e > N_s`, and leaves out a rise at the very end of the
    run; none of this is in the paper, and it is not done here. Batch norm is to be frozen or
    recalibrated (`recalibrate_batch_norm`). It keeps :math:`N_e + 2` (at first :math:`2 N_s + 1`)
    times the model's memory.

    Args:
        patience: :math:`N_s`, evaluations, at least 1.
        overfit_patience: :math:`N_e`, evaluations, at least 1.
        tolerance: r, at least 0.
        device: see `Average`.
        precision: see `Average`.

    Raises:
        UsageError: an impossible value.
    """

    by_validation_loss: ClassVar[bool] = True

    patience: int = 3
    overfit_patience: int = 6
    tolerance: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("swad: patience", self.patience, least=1)
        check_whole("swad: overfit_patience", self.overfit_patience, least=1)
        check_number("swad: tolerance", self.tolerance, "[0, inf)")

    def attach(self, model: nn.Module) -> "ValleyAverage":
        """Return a running average that has no window yet."""
        return ValleyAverage(self, model)


class ValleyAverage(RunningAverage):
    """The running average of `SWAD`."""

    needs_recalibration: ClassVar[bool] = True
    averages_buffers: ClassVar[bool] = False
    rows = ("iterate", "segment", "mean")

    def __init__(self, settings: SWAD, model: nn.Module) -> None:
        super().__init__(settings, model)
        # Before the start the mean since the last evaluation, after it the mean since the start.
        self._points["running"] = self._snapshot()
        self._numbers.update(
            losses=[],
            at=[],  # the update of each evaluation
            sizes=[],  # iterates since the evaluation before
            now=[0.0, 0.0],  # updates in all, and in the running mean
            start=[],  # evaluation and threshold, once it is found
            end=[],  # evaluation, once it is found
        )

    @property
    def monitors(self) -> bool:
        """Whether the end is still to be found."""
        return not self._numbers["end"]

    @property
    def window(self) -> tuple[int | None, int | None]:
        """The updates, from 1, of the first and the last iterate averaged, as far as found."""
        at = self._numbers["at"]
        start, end = self._numbers["start"], self._numbers["end"]
        return (
            int(at[int(start[0])]) if start else None,
            int(at[int(end[0])]) if end else None,
        )

    def _update(self, step: int, steps: int) -> None:
        del step, steps
        if not self.monitors:
            return
        updates, size = self._numbers["now"]
        self._blend("running", 1 / (size + 1), int(updates))
        self._numbers["now"] = [updates + 1, size + 1]
        if self._numbers["start"]:
            self.count = int(size + 1)

    def evaluated(self, loss: float) -> None:
        """Hear the validation loss of the training weights; find the start, then the end."""
        check_loss(loss)
        if not self.monitors:
            return
        updates, size = self._numbers["now"]
        self._numbers["losses"].append(loss)
        self._numbers["at"].append(updates)
        self._numbers["sizes"].append(size)
        if self._numbers["start"]:
            self._seek_end()
        else:
            self._seek_start()

    def _seek_start(self) -> None:
        losses, settings = self._numbers["losses"], self.settings
        now = len(losses) - 1
        self._points[f"iterate-{now}"] = self._snapshot()
        self._points[f"segment-{now}"] = self._copy("running")
        self._forget(now - settings.patience, "iterate", "segment")
        self._numbers["now"][1] = 0.0
        window = losses[-settings.patience :]
        if len(window) < settings.patience or window[0] > min(window):
            return
        start = now - settings.patience + 1
        threshold = (1 + settings.tolerance) * sum(window) / len(window)
        self._numbers["start"] = [float(start), threshold]
        self._points["running"] = self._points.pop(f"iterate-{start}")
        size = 1.0
        self._points[f"mean-{start}"] = self._copy("running")
        for i in range(start + 1, now + 1):
            more = self._numbers["sizes"][i]
            if more:
                segment = list(self._points[f"segment-{i}"].values())
                blend(list(self._points["running"].values()), segment, more / (size + more), i)
            size += more
            self._points[f"mean-{i}"] = self._copy("running")
        self._numbers["now"][1] = size
        self.count = int(size)
        self._forget(now, "iterate", "segment")
        self._forget(now - settings.overfit_patience - 1, "mean")

    def _seek_end(self) -> None:
        losses, settings = self._numbers["losses"], self.settings
        start, threshold = int(self._numbers["start"][0]), self._numbers["start"][1]
        now = len(losses) - 1
        self._points[f"mean-{now}"] = self._copy("running")
        end = now - settings.overfit_patience
        if end >= start and min(losses[end + 1 :]) > threshold:
            self._numbers["end"] = [float(end)]
            self._points["running"] = self._points[f"mean-{end}"]
            self.count = int(self._numbers["at"][end] - self._numbers["at"][start]) + 1
            self._forget(now, "mean")
        self._forget(end - 1, "mean")

    def _current(self) -> Point:
        return self._points["running"]

    def _forget(self, last: int, *kinds: str) -> None:
        """Drop the points of some rows up to an index."""
        for kind in kinds:
            for name in self._row(kind):
                if int(name.rpartition("-")[2]) <= last:
                    del self._points[name]
