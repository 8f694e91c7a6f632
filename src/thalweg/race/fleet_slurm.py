"""Workers as jobs of Slurm, submitted by submitit."""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path
from typing import Any

from thalweg.core.errors import UsageError
from thalweg.race.fleet import FAILURES, find_command

STOP_SECONDS = 15.0
HOUR = 60


class SlurmFleet:
    """Workers as jobs of Slurm, each with as many CPUs as it has threads.

    Each job works on the race's queue. A job that ends before the race (its time
    was up, its node was lost) is submitted again. A race that is begun again after its own process
    died submits new jobs; those of before that still run work beside them, and all go home when
    the race is over. Logs lie in the folder ``slurm`` of the race.

    Args:
        cluster: ``slurm``, or ``slurm:partition=gpu,time=120`` with options of ``sbatch``
            (``time`` in minutes, 60 by default).
        count: how many jobs.
        folder: the race's folder, on a file system that the nodes share.
        address: the queue's storage.
        name: the race's name.
        threads: CPUs of each job.
        executor: where submitit submits; ``local`` runs the jobs as processes, for tests.

    Raises:
        UsageError: submitit or Slurm is missing, or an option is not ``key=value``.
    """

    def __init__(
        self,
        cluster: str,
        count: int,
        folder: Path,
        address: str,
        name: str,
        threads: int,
        executor: str = "slurm",
    ) -> None:
        try:
            import submitit
        except ImportError:
            raise UsageError(
                "--cluster slurm needs submitit, which is not installed; pip install "
                '"thalweg[slurm]"'
            ) from None
        # Where Slurm keeps no accounts, which changes nothing, it says so each time it asks.
        logging.getLogger("submitit").setLevel(logging.ERROR)
        options = _options(cluster)
        if executor == "slurm":
            find_command("sbatch", "--cluster slurm")
        self.count = count
        made: Any = submitit.AutoExecutor(folder=folder / "slurm", cluster=executor)
        minutes = options.pop("time", str(HOUR))
        if not minutes.isdigit():
            raise UsageError(f'slurm: time is in minutes, found "{minutes}"')
        settings = {"name": "thalweg", "timeout_min": int(minutes), "cpus_per_task": threads}
        if executor == "slurm":
            settings |= {f"slurm_{key}": value for key, value in options.items()}
        try:
            made.update_parameters(**settings)
        except (NameError, TypeError, ValueError) as error:
            raise UsageError(f"slurm: submitit does not take these options: {error}") from error
        self._executor = made
        self._told = (address, name)
        self._jobs: list[Any] = []
        self._failures = 0

    def start(self) -> None:
        """Submit all jobs.

        Raises:
            UsageError: Slurm refused them.
        """
        self._jobs = [self._launch() for _ in range(self.count)]

    def watch(self) -> None:
        """Submit those anew that ended.

        Raises:
            UsageError: they end with an error again and again.
        """
        for place, job in enumerate(self._jobs):
            if not job.done():
                continue
            error = job.exception()
            if type(error).__name__ == "FailedJobError":  # and not one that was lost
                self._failures += 1
            if self._failures >= FAILURES:
                last = str(error).strip().splitlines() or ["they end without a word"]
                raise UsageError(
                    f"the jobs cannot work: {last[-1]} (logs in {job.paths.folder}; what is done "
                    "is kept, and the same command continues)"
                )
            self._jobs[place] = self._launch()

    def stop(self, finished: bool) -> None:
        """Wait a little for workers whose race is over, then cancel their jobs."""
        end = time.monotonic() + (STOP_SECONDS if finished else 0.0)
        for job in self._jobs:
            while not job.done() and time.monotonic() < end:
                time.sleep(0.2)
            with contextlib.suppress(Exception):
                job.cancel()

    def _launch(self) -> Any:
        try:
            return self._executor.submit(_work, *self._told)
        except Exception as error:
            raise UsageError(f"Slurm did not take the job: {error}") from error


def _work(address: str, name: str) -> int:
    from thalweg.race.worker import work

    return work(address, name, wait=60.0)


def _options(cluster: str) -> dict[str, str]:
    _, _, text = cluster.partition(":")
    options = {}
    for part in filter(None, text.split(",")):
        key, separator, value = part.partition("=")
        if not separator or not key.strip().isidentifier():
            raise UsageError(f'slurm: options are key=value, found "{part}"')
        options[key.strip()] = value.strip()
    return options
