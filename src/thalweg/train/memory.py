"""Memory of a training step: what was alive and what the step allocated, event by event."""

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

_MARK = "thalweg: measured step"


class PeakMemory:
    """Measures the peak memory of a training step, in bytes, without changing the step.

    On a CPU the profiler records every allocation and release from `start` on. The peak of the
    step inside `measured` is what was alive at the start plus the largest sum of the events so far
    within that step, which is the same number every time. Memory of libraries that do not use
    torch's allocator is not seen. Start a step earlier than the one to measure, so that state that
    the first step makes is known. On CUDA it is the allocator's own peak within the step.

    Args:
        device: where training runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._profiler: Any = None
        self._cuda_peak: int | None = None
        self._alive = 0

    def start(self, alive: int) -> None:
        """Start recording; ``alive`` is how many bytes are in use that belong to the training."""
        self._alive = alive
        # Two profilers cannot run at once; a user's own has precedence.
        if self._device.type == "cpu" and not torch.autograd.profiler._is_profiler_enabled:
            os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it logs to stderr otherwise
            self._profiler = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
            self._profiler.start()

    def measured(self) -> Any:
        """Return the context of the step to measure."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        return record_function(_MARK)

    def close(self) -> None:
        """Stop recording, if it is going on."""
        if self._profiler is not None:
            self._profiler.stop()
            self._profiler = None

    def stop(self) -> int | None:
        """Stop recording and return the peak, or None if it could not be measured."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        profiler = self._profiler
        if profiler is None:
            return None
        self.close()
        handle, name = tempfile.mkstemp(suffix=".json")
        os.close(handle)
        try:
            profiler.export_chrome_trace(name)
            events = json.loads(Path(name).read_text(encoding="utf-8"))["traceEvents"]
        finally:
            Path(name).unlink(missing_ok=True)
        return self._alive + _peak(events)


def _peak(events: Iterable[dict[str, Any]]) -> int:
    marks = [event for event in events if event.get("name") == _MARK and "dur" in event]
    begin = marks[0]["ts"]
    end = begin + marks[0]["dur"]
    known: dict[int, int] = {}
    now = highest = 0
    allocations = (event for event in events if event.get("name") == "[memory]")
    for event in sorted(allocations, key=lambda event: event["ts"]):
        if event["ts"] > end:
            break
        size, address = event["args"]["Bytes"], event["args"]["Addr"]
        if size > 0:
            known[address] = size
            now += size
        else:
            # Only what was seen to be allocated; the rest counts as alive throughout.
            now -= known.pop(address, 0)
        highest = max(highest, now) if event["ts"] >= begin else now
    return highest


def tensor_bytes(*structures: Any, without: Iterable[Tensor] = ()) -> int:
    """Return the bytes of all tensors in nested data, each piece of memory counted once.

    Args:
        *structures: nested dicts, lists and tuples.
        without: tensors whose memory is not counted.
    """
    seen = {tensor.data_ptr() for tensor in without}
    total = 0
    waiting = list(structures)
    while waiting:
        part = waiting.pop()
        if isinstance(part, Tensor):
            part = part.to_local() if hasattr(part, "to_local") else part  # type: ignore[operator]
            if part.data_ptr() not in seen:
                seen.add(part.data_ptr())
                total += part.nbytes
        elif isinstance(part, dict):
            waiting.extend(part.values())
        elif isinstance(part, (list, tuple)):
            waiting.extend(part)
    return total


def model_bytes(model: nn.Module) -> int:
    """Return the bytes of a model's parameters and buffers."""
    return tensor_bytes([*model.parameters(), *model.buffers()])


def state_bytes(optimizer: torch.optim.Optimizer, average: Any, model: nn.Module) -> int:
    """Return the bytes of an optimiser's state, wrappers included, and of a running average."""
    average_state = average.state_dict() if average is not None else None
    return tensor_bytes(optimizer.state_dict(), average_state, without=model.parameters())
