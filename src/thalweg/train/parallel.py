"""One run on several processes, as `torchrun` starts them: DDP or FSDP2."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from thalweg.core.errors import UsageError
from thalweg.core.seeds import derive_seed
from thalweg.core.streams import GlobalStream
from thalweg.workload import Batches

KINDS = ("ddp", "fsdp")


def launched() -> bool:
    """Return whether `torchrun`, or a program like it, started this process among several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def rank() -> int:
    """Return this process's number among those of the run, from 0."""
    return int(os.environ.get("RANK", "0")) if launched() else 0


def own_device() -> torch.device:
    """Return the accelerator that belongs to this process, or the CPU."""
    if torch.accelerator.is_available():
        kind = torch.accelerator.current_accelerator()
        if kind is not None and torch.accelerator.device_count() > 0:
            local = int(os.environ.get("LOCAL_RANK", "0"))
            return torch.device(kind.type, local % torch.accelerator.device_count())
    return torch.device("cpu")


def check_parallel(kind: str | None, precision: str, checkpoints: bool) -> None:
    """Check what a parallel run is asked to do.

    Raises:
        UsageError: the kind is unknown, `torchrun` did not start the process, or the kind cannot
            do what is asked.
    """
    if kind is None:
        return
    if kind not in KINDS:
        raise UsageError(f'parallel is "ddp" or "fsdp", found {kind!r}')
    if not launched() and not dist.is_initialized():
        raise UsageError(
            f"{kind} needs several processes; start them with "
            "torchrun --nproc-per-node N -m thalweg train ..."
        )
    if kind == "fsdp" and precision == "float16":
        raise UsageError('fsdp does not scale losses for float16; use "bfloat16" or "float32"')
    if kind == "fsdp" and checkpoints:
        raise UsageError("fsdp writes no checkpoints; use ddp, or leave out the checkpoint folder")


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the other processes while the block runs.

    Rank, their number and where they meet come from the environment, as `torchrun` sets it. A
    group that exists already is used and left alone.

    Raises:
        UsageError: the processes do not find each other.
    """
    if dist.is_initialized():
        yield
        return
    backend = {"cuda": "nccl", "cpu": "gloo", "xpu": "xccl"}.get(device.type, "gloo")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group(backend)
    except (ValueError, RuntimeError) as error:
        raise UsageError(
            f"the processes of this run do not find each other: {error}; start them all with "
            "torchrun --nproc-per-node N -m thalweg train ..."
        ) from error
    try:
        yield
    finally:
        dist.destroy_process_group()


class Parallel:
    r"""This process's part in a run of several.

    Each process r of R computes on its share of :math:`n_r` of every batch's n samples; shares
    differ by one sample at most and together are the batch that one process would see. The mean
    loss of a share is weighted by :math:`R n_r / n`, and DDP and FSDP2 average gradients over
    processes, so the gradient is that of the whole batch up to rounding, and so is the run where
    the model treats samples independently. Batch norm does not: its statistics are those of a
    share on a CPU, and of the whole batch on GPUs. Dropout draws from a stream of its own on every
    process, derived from seed, process and step.

    Every process evaluates all validation data, at the same weights.

    Args:
        kind: ``ddp`` (every process holds the model; gradients are averaged) or ``fsdp``
            (parameters, gradients and optimiser state are sharded).
        seed: the run's.
        batch_size: samples of a whole batch.
        device: this process's.

    Raises:
        UsageError: a batch has fewer samples than there are processes.
    """

    def __init__(self, kind: str, seed: int, batch_size: int, device: torch.device) -> None:
        self.kind = kind
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        if batch_size < self.world:
            raise UsageError(
                f"a batch of {batch_size} samples cannot be shared by {self.world} processes; use "
                "fewer processes or a larger batch_size"
            )
        self._seed = seed
        self._device = device
        self._weight = 1.0
        self._stream = GlobalStream(0)

    def shard(self, model: nn.Module) -> nn.Module:
        """Return the model that the optimiser is built for, sharded for ``fsdp``.

        FSDP2 gathers the elements of each ``nn.ModuleList`` (the blocks of most large models) one
        by one, and the rest at once.
        """
        if self._device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        if self.kind == "fsdp":
            from torch.distributed.device_mesh import init_device_mesh
            from torch.distributed.fsdp import fully_shard

            mesh = init_device_mesh(self._device.type, (self.world,))
            for part in list(model.modules()):
                if isinstance(part, nn.ModuleList):
                    for block in part:
                        if next(block.parameters(), None) is not None:
                            fully_shard(block, mesh=mesh)
            fully_shard(model, mesh=mesh)
        return model

    def network(self, model: nn.Module) -> nn.Module:
        """Return what computes the loss: the model, wrapped for ``ddp``."""
        if self.kind == "fsdp":
            return model
        devices = None if self._device.type == "cpu" else [self._device]
        return _Replicated(model, device_ids=devices)

    def batch(self, batches: Batches, step: int) -> Any:
        """Return this process's share of a step's batch."""
        share, part = batches.share(step, self.rank, self.world)
        self._weight = part
        stream = derive_seed(self._seed, "process", self.rank, step)
        self._stream = GlobalStream(stream, self._device)
        return share

    @property
    def weight(self) -> float:
        """Return the factor of the share's mean loss."""
        return self._weight * self.world

    @contextlib.contextmanager
    def drawing(self) -> Iterator[None]:
        """Let the model draw from this process's stream, so that the run's stays in step."""
        with self._stream:
            yield

    def mean(self, loss: Tensor) -> Tensor:
        """Return the mean of the weighted losses of all processes: the whole batch's loss."""
        total = loss.detach().clone()
        dist.all_reduce(total)
        return total / self.world

    def wait(self) -> None:
        """Wait for all processes to get here."""
        dist.barrier()

    def agreed(self, value: float) -> float:
        """Return the first process's value, so that all take the same decision."""
        told = torch.tensor(value, dtype=torch.float64)
        if self._device.type != "cpu":
            told = told.float().to(self._device)  # not every device has float64
        dist.broadcast(told, 0)
        return float(told)


class _Replicated(nn.parallel.DistributedDataParallel):
    """DDP through which the model's own attributes can be seen, as a task's loss may need."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)
