"""Profiles of averages over a run's points, and which mix of some comes nearest to another."""

import math
from collections.abc import Sequence

import numpy as np

from thalweg.core.checks import check_number
from thalweg.core.errors import UsageError

WIDEST = math.sqrt(1 / 12)
"""The relative width of the uniform mean, the largest there is."""

BINS = 16384  # of the points in which profiles are compared, if there are more points


def mix(
    sources: Sequence[tuple[int, float]],
    at: int,
    *,
    width: float | None = None,
    decay: float | None = None,
) -> tuple[list[float], float]:
    r"""Return the shares of power-function averages in the mix that is nearest to another average.

    Nearest is meant in least squares of the profiles, which are what each point weighs; the shares
    sum to one, so that constant weights are reconstructed exactly.

    Args:
        sources: of each average there is, the points that it is of and its exponent.
        at: points of the run after which the average asked for stands.
        width: its :math:`\sigma_{rel}` if it is a power function; or
        decay: :math:`\beta` if it is an exponential average with bias correction.

    Returns:
        One share a source, and the distance of the mix's profile from the one asked for, as a
        share of the latter's norm.

    Raises:
        UsageError: neither or both of width and decay, an impossible value, or no source that is
            as early.
    """
    if (width is None) == (decay is None):
        raise UsageError(
            f"give the width of a power function or a decay, one of the two; found "
            f"width={width!r} and decay={decay!r}"
        )
    edges = np.unique(np.linspace(0, at, min(at, BINS) + 1).round())
    if width is not None:
        check_number("reconstruct: width", width, f"(0, {WIDEST}]")
        wanted = _power(edges, at, exponent(width))
    else:
        check_number("reconstruct: decay", decay, "(0, 1)")
        wanted = _exponential(edges, at, float(decay or 0.0))
    early = [source for source in sources if source[0] <= at]
    if not early:
        raise UsageError(f"there is no snapshot of the first {at} points; ask for a later time")
    profiles = [_power(edges, points, gamma) for points, gamma in early]
    found, error = _nearest(profiles, wanted, np.diff(edges))
    each = iter(found.tolist())
    return [next(each) if points <= at else 0.0 for points, _ in sources], error


def exponent(width: float) -> float:
    r"""Return the :math:`\gamma \ge 0` of a relative width :math:`\sigma_{rel}`."""
    inverse = width**-2
    # (gamma + 2)^2 (gamma + 3) = (gamma + 1) / width^2
    roots = np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse])
    return max(0.0, float(roots.real.max()))


def _power(edges: np.ndarray, time: int, gamma: float) -> np.ndarray:
    """Return the shares of the bins in the power-function average after ``time`` points."""
    return np.diff(np.minimum(edges / time, 1.0) ** (gamma + 1))


def _exponential(edges: np.ndarray, time: int, decay: float) -> np.ndarray:
    """Return the shares of the bins in the bias-corrected exponential average."""
    logarithm = math.log(decay)
    upto = np.exp(logarithm * (time - edges)) - math.exp(logarithm * time)
    return np.diff(upto / -math.expm1(logarithm * time))


def _nearest(
    profiles: list[np.ndarray], wanted: np.ndarray, widths: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return shares, summing to one, of the profiles whose mix is nearest, and how far it is."""
    scale = 1 / np.sqrt(widths)
    columns = np.stack(profiles, 1) * scale[:, None]
    target = wanted * scale
    base = columns[:, -1:]
    rest, *_ = np.linalg.lstsq(columns[:, :-1] - base, target - base[:, 0], rcond=1e-12)
    shares = np.append(rest, 1 - rest.sum())
    error = float(np.linalg.norm(columns @ shares - target) / np.linalg.norm(target))
    return shares, error
