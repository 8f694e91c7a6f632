"""Numbers of few bits that share an exponent with their block, rounded stochastically."""

import torch
from torch import Tensor

from thalweg.engine.storage import random_bits

_SMALLEST, _LARGEST = -128, 127  # exponents of 8 bits


def block_quantised(x: Tensor, bits: int, step: int, salt: int) -> Tensor:
    r"""Return the numbers in block floating point: whole multiples of a power of two a block.

    With the block's exponent :math:`E = \lfloor \log_2 \max |x| \rfloor`, clipped to 8 bits, and
    :math:`\delta = 2^{E - b + 2}`: :math:`\delta \lfloor x / \delta + u \rfloor`, u uniform in
    [0, 1), where the whole number is clipped to :math:`[-2^{b-1}, 2^{b-1} - 1]`. A block is all of
    a tensor of one dimension or none, and one index of the first dimension of any other. On average
    it is x, where nothing is clipped. Yang et al., "SWALP: Stochastic Weight Averaging in
    Low-Precision Training", ICML 2019, arXiv:1904.11943 ("small-block" design). What is not finite
    stays so.

    Args:
        x: real numbers.
        bits: b, at least 2, the sign included.
        step: with ``salt`` it determines the random numbers (16 bits each).
        salt: see step.
    """
    if not x.numel():
        return x.clone()
    rows = x.detach().reshape(x.shape[0] if x.ndim > 1 else 1, -1).to(torch.float64)
    largest = rows.abs().nan_to_num(posinf=0.0).amax(1, keepdim=True)
    exponent = largest.log2().floor().clamp(_SMALLEST, _LARGEST)
    unit = torch.exp2(exponent - (bits - 2))
    u = random_bits(x.numel(), step, salt, x.device).view_as(rows).to(torch.float64) * 2.0**-16
    whole = (rows / unit + u).floor().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return torch.where(rows.isfinite(), whole * unit, rows).to(x.dtype).view_as(x)
