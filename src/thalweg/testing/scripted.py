"""A small model that is put through given points, for the checks of averages."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from thalweg.average import Average
from thalweg.core.seeds import generator

STEPS = 120
EVERY = 6  # steps between evaluations
# The validation loss falls to a flat valley and, in one of the two, rises out of it again.
VALLEY = [5.0, 4.0, 3.0, 2.0, 1.5, 1.2, 1.0, *[1.1] * 13]
RISING = [*VALLEY[:12], *[9.0] * 8]


@dataclass
class Following:
    """A small model that is put through scripted points, with its average."""

    settings: Average
    dtype: torch.dtype = torch.float64
    losses: list[float] = field(default_factory=lambda: RISING)
    start: int = 0  # of the random numbers that the model begins with

    def __post_init__(self) -> None:
        self.model = net(self.dtype, self.start)
        self.average = self.settings.attach(self.model)

    def advance(
        self, steps: range, point: Callable[[str, int, Tensor], Tensor] | None = None
    ) -> None:
        """Put the model through the points of some steps."""
        for step in steps:
            with torch.no_grad():
                for name, x in tensors(self.model).items():
                    x.copy_((point or scripted)(name, step, x))
            self.average.update(step, STEPS)
            if (step + 1) % EVERY == 0 and self.average.monitors:
                self.average.evaluated(self.losses[step // EVERY])

    def result(self) -> dict[str, Tensor]:
        """Return copies of what the model is evaluated with."""
        with self.average.applied(self.model):
            return {name: x.clone() for name, x in tensors(self.model).items()}


def scripted(name: str, step: int, x: Tensor) -> Tensor:
    """Return the point of a step: numbers that depend on the name and the step alone."""
    if not x.is_floating_point():
        return torch.tensor(step + 1)
    return _drawn(name, step, tuple(x.shape)).to(x.dtype, copy=True)


@functools.cache
def _drawn(name: str, step: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=generator(step, name), dtype=torch.float64) + 2


def tensors(model: nn.Module) -> Mapping[str, Tensor]:
    """Return parameters and buffers by name, without their graph."""
    found = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: x.detach() for name, x in found.items()}


def net(dtype: torch.dtype, seed: int) -> nn.Sequential:
    """Return a small model with batch norm, random in all its tensors."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    model = model.to(dtype)
    with torch.no_grad():
        for name, x in tensors(model).items():
            if x.is_floating_point():
                random = generator(seed, "start", name)
                x.copy_(torch.randn(x.shape, generator=random, dtype=torch.float64))
    return model
