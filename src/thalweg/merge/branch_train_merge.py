"""Branch-Train-Merge: experts of domains, weighted by the domain's posterior."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from thalweg.core.checks import check_number
from thalweg.core.errors import UsageError
from thalweg.merge.method import Evidence, Merge, Weights
from thalweg.merge.soup import UniformSoup


@dataclass(frozen=True)
class BranchTrainMerge(UniformSoup):
    r"""The mean of experts, each weighing as much as its domain is probable.

    :math:`w = \sum_j P(D = j | x)\, w_j` with the posterior from held-out text x of the domain in
    question (`domain_posterior`, `cached_prior`), or given as ``weights``. A new expert branches
    from such a mean; a forest of experts is merged by it, or mixed at its outputs (`mixture`).
    Li, Gururangan, Dettmers, Lewis, Althoff, Smith & Zettlemoyer, "Branch-Train-Merge:
    Embarrassingly Parallel Training of Expert Language Models", 2022, arXiv:2208.03306.

    Without ``weights`` the objective's batches are the held-out sequences, whose losses (means
    over ``tokens`` predictions) give the likelihoods, and the weights are `cached_prior`.

    Args:
        weights: the posterior, one number an expert.
        decay: of the moving average over sequences, the newest's share.
        tokens: predictions of a sequence, over which the loss is a mean.

    Raises:
        UsageError: impossible settings.
    """

    decay: float = 0.3
    tokens: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("btm: decay", self.decay, "(0, 1]")
        check_number("btm: tokens", self.tokens, "[1, inf)")

    @property
    def chooses(self) -> Literal["objective"] | None:  # type: ignore[override]
        """Return what the posterior comes from."""
        return "objective" if self.weights is None else None

    def choose(self, models: Sequence[Weights], evidence: Evidence) -> Merge:
        """Return the mean by the posterior on the objective's batches."""
        if self.weights is not None:
            return self
        assert evidence.objective is not None
        objective = evidence.objective
        rows = []
        for place in range(len(objective.batches)):
            found = [_likelihood(objective, weights, place) * self.tokens for weights in models]
            rows.append(found)
        prior = cached_prior(torch.tensor(rows, dtype=torch.float64), self.decay)
        return UniformSoup(tuple(prior.tolist()))


def _likelihood(objective: object, weights: Weights, place: int) -> float:
    from thalweg.landscape import Objective

    assert isinstance(objective, Objective)
    one = Objective(objective.module, objective.loss, [objective.batches[place]])
    with one.span({"expert": weights}, batch_norm="interpolate") as loss_at:
        return -loss_at((1.0,))


def domain_posterior(log_likelihoods: Tensor, prior: Tensor | None = None) -> Tensor:
    r"""Return :math:`P(D = j | x) \propto p(x | D = j) P(D = j)`, shaped as the argument.

    Args:
        log_likelihoods: natural logarithms, shape (..., experts).
        prior: shape (experts,), uniform unless given.

    Raises:
        UsageError: a prior that is none.
    """
    prior = _checked(prior, log_likelihoods.shape[-1]).to(log_likelihoods)
    return torch.softmax(log_likelihoods + prior.log(), -1)


def cached_prior(
    log_likelihoods: Tensor, decay: float = 0.3, prior: Tensor | None = None
) -> Tensor:
    r"""Return the moving average of sequences' posteriors, to be used as a fixed prior.

    :math:`\bar p_1 = P(D | x_1)`, :math:`\bar p_s = (1 - \alpha) \bar p_{s-1} + \alpha P(D | x_s)`
    over held-out sequences in their order, each posterior under ``prior``; the last is returned.

    Args:
        log_likelihoods: shape (sequences, experts).
        decay: :math:`\alpha`.
        prior: shape (experts,), uniform unless given.
    """
    first, *others = domain_posterior(log_likelihoods, prior)
    average = first
    for posterior in others:
        average = torch.lerp(average, posterior, decay)
    return average


def mixture(log_probabilities: Tensor, tokens: Tensor, prior: Tensor | None = None) -> Tensor:
    r"""Return the experts' mixed next-token log-probabilities, shape (positions, vocabulary).

    :math:`p(x_t | x_{<t}) = \sum_j P(D = j | x_{<t}) p_j(x_t | x_{<t})`, the posterior by Bayes'
    rule from the tokens before.

    Args:
        log_probabilities: of each expert, shape (experts, positions, vocabulary).
        tokens: the true tokens, shape (positions,).
        prior: shape (experts,), uniform unless given.
    """
    experts, positions, _ = log_probabilities.shape
    prior = _checked(prior, experts).to(log_probabilities)
    of_tokens = log_probabilities[:, torch.arange(positions), tokens]
    before = torch.cumsum(of_tokens, 1) - of_tokens
    posterior = torch.log_softmax(before + prior.log()[:, None], 0)
    return torch.logsumexp(posterior[:, :, None] + log_probabilities, 0)


def _checked(prior: Tensor | None, experts: int) -> Tensor:
    if prior is None:
        return torch.full((experts,), 1 / experts, dtype=torch.float64)
    if prior.shape != (experts,) or bool((prior < 0).any()) or not 0 < float(prior.sum()) < 1e300:
        raise UsageError(
            f"a prior is {experts} numbers of at least 0, one an expert; found {prior.tolist()}"
        )
    return prior / prior.sum()
