"""Starting the workers of a race: on this machine, through Ray, or through Slurm."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

from thalweg.core.checks import check_whole
from thalweg.core.errors import UsageError
from thalweg.race import machine

FAILURES = 3
STOP_SECONDS = 15.0
LOG = "workers.log"


class Fleet(Protocol):
    """Workers that are kept at their number."""

    count: int

    def start(self) -> None:
        """Start them all.

        Raises:
            UsageError: they cannot be started.
        """
        ...

    def watch(self) -> None:
        """Start those anew that died.

        Raises:
            UsageError: they die again and again of an error of their own.
        """
        ...

    def stop(self, finished: bool) -> None:
        """End them; first wait a little for workers that are on their way home.

        Args:
            finished: whether the race is over, so that they are.
        """
        ...


def make_fleet(
    workers: int | None, cluster: str | None, folder: Path, address: str, name: str, threads: int
) -> Fleet:
    """Return the fleet for a race.

    Args:
        workers: how many; one, or as many as an existing cluster has room for, by default.
        cluster: None for processes of this machine, ``ray`` for Ray on this machine, Ray's own
            address (``ray://host:10001``, or ``host:6379`` as ``ray:host:6379``), ``slurm``, or
            ``slurm:partition=gpu,time=120`` with options of ``sbatch``.
        folder: the race's folder, for logs.
        address: the queue's storage.
        name: the race's name.
        threads: of each worker.

    Raises:
        UsageError: ``workers`` is no number from 1, or the kind of cluster is unknown.
    """
    if workers is not None:
        check_whole("workers", workers, least=1)
    if cluster is None:
        return LocalFleet(workers or 1, folder, address, name, threads)
    if cluster.startswith("ray"):
        from thalweg.race.fleet_ray import RayFleet

        return RayFleet(cluster, workers, address, name, threads)
    if cluster.partition(":")[0] == "slurm":
        from thalweg.race.fleet_slurm import SlurmFleet

        return SlurmFleet(cluster, workers or 1, folder, address, name, threads)
    raise UsageError(
        f'the cluster "{cluster}" is unknown; write ray, ray://host:10001, slurm or '
        "slurm:partition=NAME,time=MINUTES"
    )


class LocalFleet:
    """Processes of this machine, each pinned to cores of its own if there are enough.

    A worker that is killed is started anew. When the race's own process ends, however it does,
    the workers give their runs back and end as well.
    """

    def __init__(self, count: int, folder: Path, address: str, name: str, threads: int) -> None:
        self.count = count
        self._log = folder / LOG
        self._told = json.dumps({"address": address, "name": name})
        self._threads = threads
        self._processes: list[subprocess.Popen[bytes]] = []
        self._failures = 0

    def start(self) -> None:
        """Start them all."""
        self._processes = [self._launch(place) for place in range(self.count)]

    def watch(self) -> None:
        """Start those anew that died."""
        for place, process in enumerate(self._processes):
            code = process.poll()
            if code is None:
                continue
            if code > 0:  # an error, and not a signal
                self._failures += 1
            if self._failures >= FAILURES:
                raise UsageError(
                    f"the workers cannot work: {_last_line(self._log)} (all of it in {self._log}; "
                    "what is done is kept, and the same command continues)"
                )
            _close(process)
            self._processes[place] = self._launch(place)

    def stop(self, finished: bool) -> None:
        """End them; first wait a little for them to go home, or to give their runs back."""
        for process in self._processes:
            _close(process)
        end = time.monotonic() + STOP_SECONDS
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))
            process.kill()
            process.wait()
        self._processes = []
        if finished and self._log.exists() and not self._log.stat().st_size:
            self._log.unlink()

    def _launch(self, place: int) -> subprocess.Popen[bytes]:
        available = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        threads = self._threads
        pinned = available[place * threads : (place + 1) * threads]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "THALWEG_WORKER": self._told,
            "THALWEG_CORES": str(machine.cores()),
        }
        # The last worker of those that find no cores of their own shares with all.
        if len(available) >= self.count * threads:
            environment["THALWEG_PINNED"] = json.dumps(pinned)
        else:
            environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", _CHILD],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
            )


# Pinned before torch counts the cores.
_CHILD = """
import json, os
pinned = os.environ.get("THALWEG_PINNED")
if pinned:
    os.sched_setaffinity(0, json.loads(pinned))
from thalweg.race.worker import child
child()
"""


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _last_line(log: Path) -> str:
    with contextlib.suppress(OSError):
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        if lines:
            return lines[-1].removeprefix("error: ")
    return "they end without a word"


def find_command(name: str, what: str) -> str:
    """Return the path of a program.

    Raises:
        UsageError: this machine does not have it.
    """
    found = shutil.which(name)
    if found is None:
        raise UsageError(f"{what} needs the program {name}, which is not on this machine")
    return found
