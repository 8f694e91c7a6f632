"""Diverse weight averaging."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from thalweg.core.checks import check_choice
from thalweg.merge.greedy import greedy
from thalweg.merge.method import Evidence, Merge, Weights
from thalweg.merge.soup import UniformSoup


@dataclass(frozen=True)
class DiWA(UniformSoup):
    r"""The mean of independent runs from one start, with mildly varied hyper-parameters.

    "uniform" averages all runs' best checkpoints; "restricted" sorts them by validation score and
    adds each whose addition does not lower the score of the mean (ties are accepted). The
    expected error of the mean of M models is bias^2 + variance/M + (M-1)/M covariance plus a term
    of locality, which is 0 for models linear in their weights: diversity lowers the covariance, a
    shared start and mild settings keep the locality small. Rame et al., "Diverse Weight Averaging
    for Out-of-Distribution Generalization", NeurIPS 2022, arXiv:2205.09739. The authors freeze
    batch norm while training, so that its statistics need no pass afterwards.

    Args:
        weights: :math:`\alpha_i \ge 0`, one a run; equal unless given.
        selection: which runs take part.

    Raises:
        UsageError: impossible settings.
    """

    selection: Literal["uniform", "restricted"] = "uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("diwa: selection", self.selection, ("uniform", "restricted"))

    @property
    def chooses(self) -> Literal["score"] | None:  # type: ignore[override]
        """Return what the selection goes by."""
        return "score" if self.selection == "restricted" else None

    def choose(self, models: Sequence[Weights], evidence: Evidence) -> Merge:
        """Return the mean of the selected runs."""
        if self.selection == "uniform":
            return self
        assert evidence.score is not None
        members = greedy(models, evidence.score)
        given = self.weights or (1.0,) * len(models)
        return UniformSoup(tuple(w * (i in members) for i, w in enumerate(given)))
