"""How many threads one operation of torch uses."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def use_threads(count: int | None) -> Iterator[None]:
    """Let operations on the CPU use so many threads while the block runs; None leaves it as it is.

    Threads of one operation wait for each other; with small operations on a busy machine that
    takes many times as long as the work.
    """
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        if count is not None:
            torch.set_num_threads(before)
