"""What a race ran on, and whether its times can be believed."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from thalweg._version import __version__
from thalweg.race.rows import RunRow

WALL_PER_CPU = 1.5
SPREAD = 1.5
LOAD_PER_CORE = 1.25


def facts(device: str, threads: int) -> dict[str, Any]:
    """Return facts about this machine.

    Keys: ``cpu`` (model), ``cores`` (that this process may use), ``threads``, ``device``,
    ``accelerator`` (name, or None), ``memory_bytes``, ``os``, ``python``, ``torch``, ``thalweg``,
    ``load_before`` (one-minute load average when the race began, or None).
    """
    accelerator = None
    if device.startswith("cuda") and torch.cuda.is_available():
        accelerator = torch.cuda.get_device_name(device)
    return {
        "cpu": _cpu_model(),
        "cores": cores(),
        "threads": threads,
        "device": device,
        "accelerator": accelerator,
        "memory_bytes": _memory(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "thalweg": __version__,
        "load_before": load(),
    }


def worker_facts(device: str, threads: int) -> dict[str, Any]:
    """Return facts about this worker.

    Keys: ``name`` (host and process, unique in a race), ``host`` (what tells machines and
    containers apart), ``pid``, ``cpu``, ``cores`` (of the machine), ``threads``, ``accelerator``.
    """
    here = facts(device, threads)
    return {
        "name": f"{platform.node()}:{os.getpid()}",
        "host": host(),
        "pid": os.getpid(),
        **{key: here[key] for key in ("cpu", "accelerator", "threads")},
        "cores": int(os.environ.get("THALWEG_CORES", 0)) or here["cores"],
    }


def host() -> str:
    """Return what two processes share whose process ids can be compared."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def is_alive(pid: int) -> bool:
    """Return whether a process of this machine is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is somebody else's
    return True


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load() -> float | None:
    """Return the one-minute load average, or None where the system has none."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def contention(rows: Sequence[RunRow], machine: dict[str, Any]) -> str | None:
    """Return why the race's times cannot be compared, or None if nothing speaks against it.

    Signs that the runs had to share the machine: all runs together took more than 1.5 seconds of
    wall time per second of processor time (on a CPU); the median step time of an entrant's final
    runs, which do the same work, differs by more than 1.5 between two of them; the load average
    over the runs was above 1.25 per core of the machine that did them. And two of workers: those
    of one machine had more threads than it has cores, or they ran on different processors.
    """
    timed = [row for row in rows if row.wall_seconds and row.cpu_seconds]
    wall = sum(row.wall_seconds or 0 for row in timed)
    processor = sum(row.cpu_seconds or 0 for row in timed)
    on_cpu = str(machine.get("device", "cpu")) == "cpu"
    if on_cpu and wall > WALL_PER_CPU * processor > 0:
        return f"the runs took {wall / processor:.1f} s of wall time per second of processor time"
    for name in dict.fromkeys(row.entrant for row in rows):
        times = [
            row.seconds_per_step
            for row in rows
            if row.entrant == name and row.phase == "final" and row.seconds_per_step
        ]
        if times and max(times) > SPREAD * min(times):
            return f"the step time of {name} varied by a factor of {max(times) / min(times):.1f}"
    workers = machine.get("workers", {})
    cores = {row.run_id: _worker(row, machine).get("cores") or 1 for row in timed}
    loads = [(row.load / cores[row.run_id], row) for row in timed if row.load is not None]
    if loads and median(share for share, _ in loads) > LOAD_PER_CORE:
        each = sorted(loads, key=lambda pair: pair[0])[len(loads) // 2][1]
        return f"the load average was {each.load:.1f} on {cores[each.run_id]} cores"
    used = [_worker(row, machine) for row in timed]
    models = sorted({str(one.get("accelerator") or one.get("cpu")) for one in used})
    if len(models) > 1:
        return f"the runs were done on different processors: {', '.join(models)}"
    together = machine.get("workers_at_once", 1)
    threads = machine.get("threads") or 1
    if workers and on_cpu and together * threads > (machine.get("cores") or 1):
        return (
            f"{together} workers with {threads} threads each shared the "
            f"{machine.get('cores')} cores of one machine"
        )
    return None


def _worker(row: RunRow, machine: dict[str, Any]) -> dict[str, Any]:
    """Return the facts about what did a run: a worker, or the race's own process."""
    return machine.get("workers", {}).get(row.worker, machine)


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
