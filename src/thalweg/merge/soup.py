"""Model soups: plain means of weights."""

from dataclasses import dataclass

from torch import Tensor

from thalweg.core.shares import check_weights
from thalweg.merge.method import Merge, Piece, mean


@dataclass(frozen=True)
class UniformSoup(Merge):
    r"""The mean of the models' weights.

    :math:`w = \sum_i \alpha_i w_i / \sum_i \alpha_i`, all :math:`\alpha_i` equal unless given.
    When to use: models fine-tuned from one pretrained start with various settings; no data is
    needed. Independently trained models do not average well. Wortsman et al., "Model soups:
    averaging weights of multiple fine-tuned models improves accuracy without increasing inference
    time", ICML 2022, arXiv:2203.05482.

    Args:
        weights: :math:`\alpha_i \ge 0`, one a model.

    Raises:
        UsageError: impossible weights.
    """

    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", check_weights("weights", self.weights))

    def plain_weights(self) -> tuple[float, ...] | None:
        """Return the soup's own weights: a member without weight has no say in anything."""
        return self.weights

    def combine(self, piece: Piece, measured: None) -> Tensor:
        """Return the weighted mean."""
        del measured
        return mean(piece.models, self.weights)
