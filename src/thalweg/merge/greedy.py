"""Greedy soups: members are added while the held-out score does not fall."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.merge.method import Evidence, Merge, Piece, Score, Weights
from thalweg.merge.soup import UniformSoup


@dataclass(frozen=True)
class GreedySoup(Merge):
    r"""The mean of those models that help one another on held-out data.

    Models are sorted by their held-out score, the best first (ties in the order given). The soup
    starts as the first; each next model joins if the mean with it scores at least as well as the
    soup so far. So it never scores below the best single model there. The held-out data must be
    disjoint from the training data. Wortsman et al., "Model soups", ICML 2022, arXiv:2203.05482.

    Difference from the authors' code: that accepts only a strictly better score, the paper (and
    this) an equal one, too.
    """

    chooses: ClassVar[Literal["score", "objective"] | None] = "score"

    def choose(self, models: Sequence[Weights], evidence: Evidence) -> Merge:
        """Return the soup of the members that were accepted."""
        assert evidence.score is not None
        members = greedy(models, evidence.score)
        return UniformSoup(tuple(float(i in members) for i in range(len(models))))

    def combine(self, piece: Piece, measured: None) -> Tensor:
        """Never called: `choose` returns a uniform soup."""
        raise AssertionError("a greedy soup chooses first")


def greedy(models: Sequence[Weights], score: Score) -> list[int]:
    """Return the places of the accepted models, in the order of their acceptance.

    Raises:
        UsageError: a score is not a number.
    """
    alone = [_scored(score, model, f"model {i + 1}") for i, model in enumerate(models)]
    first, *others = sorted(range(len(models)), key=lambda i: -alone[i])
    members, best = [first], alone[first]
    for i in others:
        tried = [models[j] for j in (*members, i)]
        found = _scored(score, averaged(tried), "a soup")
        if found >= best:
            members.append(i)
            best = found
    return members


def averaged(models: Sequence[Weights]) -> Weights:
    """Return the uniform soup of whole models."""
    from thalweg.merge.merging import merge  # it knows the policies for what is not a weight

    return merge(UniformSoup(), models)


def _scored(score: Score, weights: Weights, what: str) -> float:
    value = float(score(weights))
    if value != value:
        raise UsageError(f"the score of {what} is not a number; scores must be comparable")
    return value
