"""Reading many samples at once."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")


def each(read: Callable[[Item], Read], items: Iterable[Item]) -> list[Read]:
    """Return ``read(item)`` of each item, in their order, by as many threads as processors.

    For what waits for files or programs, or decodes outside Python. ``read`` must not draw from a
    global generator: the order of its calls is not fixed.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(read, items))
