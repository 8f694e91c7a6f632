"""Seeds for independent random streams, derived from one seed by name."""

import hashlib

import torch


def derive_seed(seed: int, *stream: str | int) -> int:
    """Return a seed in [0, 2**63) for the stream that the names tell apart.

    The first eight bytes of SHA-256 over the seed and the names: the same on every machine, and
    a stream does not move when another one is added.
    """
    text = "/".join(str(part) for part in (seed, *stream))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *stream: str | int, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a fresh generator seeded by `derive_seed`."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, *stream))
