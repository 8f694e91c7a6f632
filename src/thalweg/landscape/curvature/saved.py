"""How much memory a graph keeps."""

import torch
from torch import Tensor


class SavedBytes:
    """Counts the bytes that autograd saves, each storage once."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._count, lambda x: x)

    @property
    def bytes(self) -> int:
        """Return them."""
        return sum(self._seen.values())

    def _count(self, x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        self._seen[storage.data_ptr()] = storage.nbytes()
        return x

    def __enter__(self) -> None:
        self._hooks.__enter__()

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)
