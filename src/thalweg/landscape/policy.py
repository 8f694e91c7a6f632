"""What batch-norm statistics are at weights that were not trained."""

from collections.abc import Iterable
from typing import Literal, TypeVar, get_args

from torch import nn

from thalweg.core.batch_norm import batch_norm_layers
from thalweg.core.errors import UsageError, did_you_mean

Policy = Literal["frozen", "interpolate", "recalibrate"]
POLICIES: tuple[Policy, ...] = get_args(Policy)

Around = Literal["frozen", "recalibrate"]
AROUND: tuple[Around, ...] = get_args(Around)
"""The policies around one point, which has no other statistics to mix with."""

P = TypeVar("P", Policy, Around)

_MEANING = {
    "recalibrate": "recomputes them on the calibration batches at every point, as training would "
    "leave them there",
    "interpolate": "mixes them like weights",
    "frozen": "keeps those of one point",
}


def settled(model: nn.Module, policy: P | None, default: P, known: tuple[P, ...]) -> P:
    """Return the policy, which may be left out where the model keeps no batch-norm statistics.

    Raises:
        UsageError: it was left out and matters, or is unknown.
    """
    if policy is None:
        layer = next(iter(batch_norm_layers(model)), None)
        if layer is None:
            return default
        choices = "; ".join(f'"{name}" {_MEANING[name]}' for name in known)
        raise UsageError(
            f'the model has batch norm (layer "{layer}"), and what its statistics are at other '
            f"weights changes the losses: choose batch_norm. {choices[0].upper()}{choices[1:]}."
        )
    if policy not in known:
        raise UsageError(
            f'unknown batch-norm policy "{policy}".{did_you_mean(policy, known)} '
            f"Known: {', '.join(known)}."
        )
    return policy


def settled_between(
    model: nn.Module, policy: Policy | None, frozen_at: str | None, points: Iterable[str]
) -> Policy:
    """Return the policy between points; "frozen" names one of them, and no other policy does.

    Raises:
        UsageError: as `settled`, or a point that is missing, unknown or not wanted.
    """
    points = list(points)
    if policy is not None or frozen_at is None:
        policy = settled(model, policy, "recalibrate", POLICIES)
    if policy is None or (policy == "frozen") != (frozen_at is not None):
        raise UsageError('frozen_at names a point for the policy "frozen", and for no other')
    if frozen_at is not None and frozen_at not in points:
        raise UsageError(f'frozen_at is "{frozen_at}", which is none of: {", ".join(points)}')
    return policy
