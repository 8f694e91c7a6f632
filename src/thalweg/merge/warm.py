"""Weight-averaged reward models."""

from dataclasses import dataclass

from thalweg.merge.soup import UniformSoup


@dataclass(frozen=True)
class WARM(UniformSoup):
    r"""The mean of reward models' weights, to be used as one reward.

    :math:`\phi = \frac1M \sum_i \phi_i` of M reward models that were fine-tuned from one
    supervised start with other data orders and mildly other settings ("Baklava": from several
    checkpoints along that supervised run, with one shared head that was trained first). To first
    order the mean predicts as the ensemble of the members; to second order it keeps the features
    that members share, and so memorises fewer wrong labels. Rame et al., "WARM: On the Benefits of
    Weight Averaged Reward Models", ICML 2024, arXiv:2401.12187; no code was released.

    Args:
        weights: one a model; the paper's are equal.

    Raises:
        UsageError: impossible weights.
    """
