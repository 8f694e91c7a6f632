"""A private stream of the process-wide random generators, for code that draws from those."""

import random
from typing import Any

import numpy as np
import torch

from thalweg.core.errors import UsageError


class GlobalStream:
    """A stream of torch's, NumPy's and Python's global generators that nobody else moves.

    Dropout, initialisers and most augmentations draw from the global generators. Inside
    ``with stream:`` these continue the stream; outside they are as they were, bit for bit. The
    stream continues where it stopped each time it is entered.

    Args:
        seed: non-negative; the same seed gives the same stream.
        device: the device whose generator belongs to the stream too, beside the CPU's.

    Raises:
        UsageError: a stream is entered while it is active.
    """

    def __init__(self, seed: int, device: str | torch.device = "cpu") -> None:
        self._seed = seed
        self._device = torch.device(device)
        self._inside: dict[str, Any] | None = None
        self._outside: dict[str, Any] | None = None

    def __enter__(self) -> "GlobalStream":
        if self._outside is not None:
            raise UsageError("this random stream is active already; it cannot be entered twice")
        self._outside = self._capture()
        if self._inside is None:
            # Not torch.manual_seed: it also seeds devices that are not part of the stream.
            torch.default_generator.manual_seed(self._seed)
            if self._device.type != "cpu":
                self._module().manual_seed(self._seed)
            np.random.seed(self._seed % 2**32)
            random.seed(self._seed)
        else:
            self._restore(self._inside)
        return self

    def __exit__(self, *error: object) -> None:
        self._inside = self._capture()
        if self._outside is not None:
            self._restore(self._outside)
        self._outside = None

    def state_dict(self) -> dict[str, Any]:
        """Return where the stream stands: tensors, numbers, strings and tuples."""
        if self._outside is not None:
            return self._capture()
        if self._inside is None:
            with self:
                return self._capture()
        return self._inside

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned."""
        if self._outside is not None:
            self._restore(state_dict)
        else:
            self._inside = state_dict

    def _module(self) -> Any:
        return torch.get_device_module(self._device)

    def _capture(self) -> dict[str, Any]:
        name, keys, *rest = np.random.get_state()
        state: dict[str, Any] = {
            "torch": torch.get_rng_state(),
            "numpy": (name, torch.from_numpy(np.asarray(keys, np.int64)), *rest),
            "python": random.getstate(),
        }
        if self._device.type != "cpu":
            state["device"] = self._module().get_rng_state()
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        torch.set_rng_state(state["torch"])
        name, keys, *rest = state["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
        random.setstate(state["python"])
        if self._device.type != "cpu":
            self._module().set_rng_state(state["device"])
