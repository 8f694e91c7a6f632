"""Optimiser state in fewer bits: bfloat16, or 8-bit codes with a scale for each block.

What is stored is rounded stochastically, with random bits that are a function of the step and of
the entry's place: a mean that moves by less than the spacing of the stored numbers would never
move if it were rounded to the nearest. Compiled kernels and the functions here use the same bits.

8-bit codes of 256 neighbouring entries share a scale s, the largest absolute value among them.
Code c stands for ``s sign(c) (|c| / C)^4``, with C = 127 for signed entries and 255 for those
that are never negative, so that relative precision reaches down to s / 10^8 and further.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.engine import distributed

Bits = Literal[8, 16]
BLOCK = 256
SMALLEST = 4096  # entries of a tensor for which 8-bit codes are used at all
SCALE = "__scale"
CODES = {torch.int8: 127, torch.uint8: 255}

# State that is a sum or a mean of squares, by the names that rules give it.
_NEVER_NEGATIVE = (
    *("exp_avg_sq", "max_exp_avg_sq", "exp_avg_var", "exp_avg_diff_sq", "square_avg"),
    *("acc_delta", "sum", "exp_inf", "exp_hessian_diag_sq", "exp_avg_squared"),
)


def check_bits(bits: Any) -> None:
    """Raise a `UsageError` unless the number of bits is one that state can have."""
    if bits not in (None, 8, 16):
        raise UsageError(f"state_bits must be 8, 16 or None (the parameter's own), found {bits!r}")


def compressed(state: dict[str, Any], p: Tensor, bits: Bits | None) -> dict[str, Any]:
    """Return the state that a parameter starts with, stored in this many bits.

    What is shaped like the parameter and starts at zero is compressed; the rest, points among
    it, keeps its precision.

    Raises:
        UsageError: 8 bits for a sharded parameter, whose blocks would be torn apart.
    """
    if bits is None:
        return state
    if bits == 8 and distributed.is_distributed(p):
        raise UsageError("state_bits=8 does not go with sharded parameters; use state_bits=16")
    found: dict[str, Any] = {}
    for name, x in state.items():
        if not isinstance(x, Tensor):
            found[name] = x
            continue
        fits = x.shape == p.shape and x.is_floating_point() and x.numel() > 0
        if not fits or (not x.is_meta and bool(distributed.gathered(x).count_nonzero())):
            found[name] = x
        elif bits == 16:
            found[name] = x.to(torch.bfloat16)
        elif x.numel() >= SMALLEST:
            codes = torch.uint8 if name in _NEVER_NEGATIVE else torch.int8
            found[name] = torch.zeros_like(x, dtype=codes, memory_format=torch.contiguous_format)
            blocks = -(-x.numel() // BLOCK)
            found[name + SCALE] = torch.zeros(blocks, dtype=torch.float32, device=x.device)
        else:
            found[name] = x
    return found


def opened(state: dict[str, Any], p: Tensor) -> dict[str, Any]:
    """Return a state dictionary with what is compressed as tensors that formulas can work on."""
    found: dict[str, Any] = {}
    for name, x in state.items():
        if name.endswith(SCALE):
            continue
        if isinstance(x, Tensor) and x.dtype in CODES:
            found[name] = decoded(x, state[name + SCALE]).to(p.dtype)
        elif isinstance(x, Tensor) and x.dtype == torch.bfloat16:
            found[name] = x.to(p.dtype)
        else:
            found[name] = x
    return found


def close(state: dict[str, Any], worked: dict[str, Any], step: int) -> None:
    """Store what a formula left in the opened state."""
    salt = 0
    for name, x in list(state.items()):
        if name.endswith(SCALE) or not isinstance(x, Tensor):
            continue
        if x.dtype in CODES:
            encode(worked[name], x, state[name + SCALE], step, salt)
        elif x.dtype == torch.bfloat16:
            x.copy_(rounded(worked[name], step, salt))
        elif worked[name] is not x:
            state[name] = worked[name]
        salt += 1


def decoded(codes: Tensor, scale: Tensor) -> Tensor:
    """Return the numbers that codes stand for, float32, shaped like the codes."""
    flat = codes.reshape(-1).to(torch.float32) * (1 / CODES[codes.dtype])
    square = flat * flat
    value = square * square * flat.sign()
    return (value * _spread(scale, len(flat))).reshape(codes.shape)


def encode(x: Tensor, codes: Tensor, scale: Tensor, step: int, salt: int) -> None:
    """Write the codes and scales of numbers; a block with NaN or infinity gets the scale NaN."""
    flat = x.detach().reshape(-1).to(torch.float32)
    padded = torch.nn.functional.pad(flat, (0, len(scale) * BLOCK - len(flat)))
    blocks = padded.reshape(-1, BLOCK)
    scale.copy_(blocks.abs().amax(1) + (blocks * 0).sum(1))
    largest = CODES[codes.dtype]
    share = flat.abs() / _spread(scale, len(flat))
    level = share.nan_to_num(0.0).sqrt().sqrt() * largest
    random = random_bits(len(flat), step, salt, flat.device).to(torch.float32) * 2.0**-16
    code = (level + random).floor().clamp(max=largest)
    # Nothing that is not zero becomes zero where it may be divided by.
    code = torch.where((flat > 0) & (code < 1) & (largest == 255), 1.0, code)
    codes.copy_((code * flat.sign().nan_to_num(0.0)).reshape(codes.shape))


def rounded(x: Tensor, step: int, salt: int) -> Tensor:
    """Return bfloat16 numbers, each one of its two neighbours, on average the number itself."""
    whole = x.detach()
    flat = distributed.local(whole).to(torch.float32).contiguous().reshape(-1)
    bits = flat.view(torch.int32).to(torch.int64) & 0xFFFFFFFF
    up = ((bits + random_bits(len(flat), step, salt, flat.device)) >> 16) << 16
    signed = torch.where(up >= 1 << 31, up - (1 << 32), up).to(torch.int32)
    value = torch.where(flat.isfinite(), signed.view(torch.float32), flat).to(torch.bfloat16)
    part = value.reshape(distributed.local(whole).shape)
    return distributed.like_local(part, whole)


def random_bits(count: int, step: int, salt: int, device: torch.device) -> Tensor:
    """Return 16 random bits for each entry, as integers; a mixing function of the place."""
    mask = 0xFFFFFFFF
    x = torch.arange(count, dtype=torch.int64, device=device) * 0x9E3779B1
    x = (x + step * 0x85EBCA77 + salt * 0xC2B2AE3D) & mask
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & mask
    x = ((x ^ (x >> 15)) * 0x846CA68B) & mask
    return (x ^ (x >> 16)) & 0xFFFF


def _spread(scale: Tensor, count: int) -> Tensor:
    """Return each entry's scale."""
    return scale.repeat_interleave(BLOCK)[:count]
