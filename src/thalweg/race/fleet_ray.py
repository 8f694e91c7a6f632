"""Workers as tasks of Ray."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any
from urllib.parse import urlsplit

from thalweg.core.errors import UsageError
from thalweg.race import machine

ANSWER_SECONDS = 10.0
FAILURES = 3
STOP_SECONDS = 15.0


class RayFleet:
    """Workers as tasks of Ray, each with as many CPUs as it has threads.

    Ray starts the processes and places them; the runs go through the race's queue, so a task that
    Ray loses loses nothing. Workers on other machines must reach the queue: a race's folder on a
    shared file system, or a ``--storage`` by URL; and they need the same Thalweg and torch.

    Args:
        cluster: ``ray`` for Ray on this machine, ``ray://host:10001`` for a cluster's client port,
            ``ray:ADDRESS`` for any other address that ``ray.init`` takes.
        count: how many workers; by default as many as the cluster's CPUs hold.
        address: the queue's storage.
        name: the race's name.
        threads: of each worker.

    Raises:
        UsageError: Ray is not installed, or nothing answers at the address.
    """

    def __init__(
        self, cluster: str, count: int | None, address: str, name: str, threads: int
    ) -> None:
        try:
            import ray
        except ImportError:
            raise UsageError(
                '--cluster ray needs Ray, which is not installed; pip install "thalweg[ray]"'
            ) from None
        self._ray: Any = ray
        self._where = None
        if cluster != "ray":
            self._where = cluster if cluster.startswith("ray://") else cluster.partition(":")[2]
            if not self._where or cluster[3] != ":":
                raise UsageError(
                    f'"{cluster}" is no address of Ray; write ray, ray://host:10001 or ray:ADDRESS'
                )
            _check_answer(self._where)
        self.count = count or 0
        self._told = (address, name)
        self._threads = threads
        self._tasks: list[Any] = []
        self._failures = 0

    def start(self) -> None:
        """Connect, and start them all.

        Raises:
            UsageError: the cluster does not answer, or has no room.
        """
        ray, threads = self._ray, self._threads
        options: dict[str, Any] = {"log_to_driver": False, "ignore_reinit_error": True}
        if self._where is None:
            self.count = self.count or max(1, machine.cores() // threads)
            options |= {"num_cpus": self.count * threads, "include_dashboard": False}
            options["address"] = "local"
        else:
            options["address"] = self._where
        try:
            ray.init(**options)
            room = int(ray.cluster_resources().get("CPU", 0)) // threads
        except Exception as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise UsageError(
                f"the Ray cluster {self._where or 'on this machine'} does not answer: {reason}; "
                "check that it runs (ray status) and that the address is right"
            ) from error
        if room < max(1, self.count):
            ray.shutdown()
            raise UsageError(
                f"the Ray cluster has room for {room} workers of {threads} threads, and "
                f"{max(1, self.count)} are asked for; use fewer --workers or fewer --threads"
            )
        self.count = self.count or room
        self._work = ray.remote(num_cpus=threads, max_retries=0)(_work)
        self._tasks = [self._launch() for _ in range(self.count)]

    def watch(self) -> None:
        """Start those anew that ended.

        Raises:
            UsageError: the cluster is gone, or the workers end with an error again and again.
        """
        ray = self._ray
        try:
            ended, _ = ray.wait(self._tasks, num_returns=len(self._tasks), timeout=0)
        except Exception as error:
            raise UsageError(
                f"the Ray cluster is gone ({type(error).__name__}: {error}); what is done is kept, "
                "and the same command continues"
            ) from error
        for task in ended:
            try:
                ray.get(task)
            except ray.exceptions.RayTaskError as error:
                self._failures += 1
                if self._failures >= FAILURES:
                    cause = error.cause if error.cause is not None else error
                    raise UsageError(
                        f"the workers cannot work: {cause}; what is done is kept, and the same "
                        "command continues"
                    ) from error
            except ray.exceptions.RayError:
                pass  # killed, or its machine lost
            self._tasks[self._tasks.index(task)] = self._launch()

    def stop(self, finished: bool) -> None:
        """Wait a little for workers whose race is over, then leave the cluster."""
        ray = self._ray
        with contextlib.suppress(Exception):
            if finished:
                ray.wait(self._tasks, num_returns=len(self._tasks), timeout=STOP_SECONDS)
            for task in self._tasks:
                ray.cancel(task, force=True)
        time.sleep(0.1)
        ray.shutdown()

    def _launch(self) -> Any:
        return self._work.remote(*self._told)


def _check_answer(address: str) -> None:
    """Ray itself tries for minutes, and then ends the process."""
    split = urlsplit(address if "://" in address else f"//{address}")
    try:
        if split.hostname is None or split.port is None:
            return  # "auto" and the like
        socket.create_connection((split.hostname, split.port), ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the Ray cluster {address} does not answer: {error}; check that it runs (ray status) "
            "and that the address is right"
        ) from None


def _work(address: str, name: str) -> int:
    from thalweg.race.worker import work

    return work(address, name, wait=10.0)
