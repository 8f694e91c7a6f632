"""How far predicted probabilities can be trusted."""

from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.core.checks import check_whole
from thalweg.core.errors import UsageError


@dataclass(frozen=True)
class Calibration:
    """How predicted probabilities compare with what happened.

    Attributes:
        accuracy: share of samples whose most probable class is theirs.
        nll: mean negative logarithm, in nats, of the probability of the sample's class.
        ece: expected calibration error: the mean over samples of the distance, in the sample's bin,
            of mean confidence and accuracy.
        brier: mean squared distance of the probabilities from the unit vector of the class.
        bins: of each bin that has samples, in order of confidence: how many, their mean confidence
            and their accuracy; what a reliability diagram shows.
    """

    accuracy: float
    nll: float
    ece: float
    brier: float
    bins: tuple[tuple[int, float, float], ...]


def calibration(logits: Tensor, classes: Tensor, bins: int = 15) -> Calibration:
    r"""Return the calibration of predictions.

    Confidence is the largest probability; bins are of equal width, (k/B, (k+1)/B]. Guo et al., "On
    Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599.

    Args:
        logits: (n, C), logits or log-probabilities.
        classes: (n,), integers in [0, C).
        bins: B, at least 1.

    Raises:
        UsageError: shapes or classes that do not go together, no sample, or logits that are NaN.
    """
    check_whole("calibration: bins", bins, least=1)
    if logits.ndim != 2 or classes.shape != logits.shape[:1] or not len(logits):
        raise UsageError(
            "calibration takes logits (n, C) and classes (n,), n at least 1; found "
            f"{tuple(logits.shape)} and {tuple(classes.shape)}"
        )
    if bool(logits.isnan().any()):
        raise UsageError("calibration: the logits hold NaN; the model has diverged")
    if classes.is_floating_point() or not bool(
        ((classes >= 0) & (classes < logits.shape[1])).all()
    ):
        raise UsageError(
            f"calibration: classes must be whole numbers from 0 to {logits.shape[1] - 1}"
        )
    classes = classes.long()
    log_probabilities = logits.detach().double().log_softmax(1)
    probabilities = log_probabilities.exp()
    confidence, predicted = probabilities.max(1)
    right = (predicted == classes).double()
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    counts = torch.bincount(place, minlength=bins)
    sums = torch.stack(
        [torch.bincount(place, weights=x, minlength=bins) for x in (confidence, right)]
    )
    n = len(logits)
    found = [
        (int(c), float(conf / c), float(acc / c))
        for c, conf, acc in zip(counts, sums[0], sums[1], strict=True)
        if c
    ]
    target = torch.nn.functional.one_hot(classes, logits.shape[1]).double()
    return Calibration(
        accuracy=float(right.mean()),
        nll=float(-log_probabilities.gather(1, classes[:, None]).mean()),
        ece=float((sums[0] - sums[1]).abs().sum() / n),
        brier=float((probabilities - target).square().sum(1).mean()),
        bins=tuple(found),
    )
