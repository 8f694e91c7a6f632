"""Averages that are kept in bfloat16: moved in float32, rounded stochastically, in one pass."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from thalweg.engine.kernel import ROUNDING, STORAGE, Kernel, NoCompilerError
from thalweg.engine.places import PLAIN
from thalweg.engine.storage import rounded
from thalweg.engine.trace import Formula

_LERP = Formula(
    once=(),
    each=("const T x = in_average + (T)k_weight * (in_point - in_average);",),
    stores={"average": "x"},
    sums={},
)


def blend_rounded(
    kept: Sequence[Tensor], points: Sequence[Tensor], weight: float, salt: int
) -> None:
    """Move kept tensors towards others: ``kept + weight (point - kept)``, rounded stochastically.

    A kernel does it where there is a compiler and the tensors lie on the CPU without gaps; torch
    does, with the same random bits, elsewhere.

    Args:
        kept: bfloat16, changed in place.
        points: of the same shapes and on the same devices.
        weight: in [0, 1].
        salt: tells the random bits of one call from those of another.
    """
    together: dict[torch.dtype, list[tuple[Tensor, Tensor]]] = {}
    for average, point in zip(kept, points, strict=True):
        if _is_flat(average) and _is_flat(point) and average.stride() == point.stride():
            together.setdefault(point.dtype, []).append((average, point))
        else:
            _blend(average, point, weight, salt)
    for dtype, pairs in together.items():
        try:
            kernel = _kernel(dtype)
        except NoCompilerError:
            for average, point in pairs:
                _blend(average, point, weight, salt)
            continue
        addresses = np.array([[x.data_ptr() for x in pair] for pair in pairs], dtype=np.int64)
        sizes = np.array([average.numel() for average, _ in pairs], dtype=np.int64)
        kernel(
            np.ascontiguousarray(addresses.T), sizes, int(sizes.sum()), (weight, salt % 2**32), ()
        )


def _blend(average: Tensor, point: Tensor, weight: float, salt: int) -> None:
    mean = average.to(torch.float32).lerp_(point.to(torch.float32), weight)
    average.copy_(rounded(mean, salt, 0))


def _is_flat(x: Tensor) -> bool:
    return (
        type(x) in PLAIN
        and x.is_cpu
        and x.dtype in STORAGE
        and x.dtype.is_floating_point
        and (x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last))
    )


@cache
def _kernel(dtype: torch.dtype) -> Kernel:
    arrays, dtypes = ("average", "point"), (torch.bfloat16, dtype)
    return Kernel(_LERP, arrays, ("weight", ROUNDING), (), dtypes, stochastic=True)
