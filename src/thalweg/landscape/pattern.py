"""A plane in weight space on which the loss shows a given picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from thalweg.core.errors import UsageError
from thalweg.core.seeds import generator
from thalweg.core.streams import GlobalStream
from thalweg.landscape.objective import Objective, Progress
from thalweg.landscape.restored import dense_gradients, restored


@dataclass(frozen=True)
class Pattern:
    r"""A plane :math:`w(x, y) = o + s (x r + y u)` whose losses follow a picture.

    Attributes:
        picture: ``picture[y][x]`` is True where the loss is to be low.
        origin: o, one tensor for each trainable parameter.
        right: r, likewise.
        up: u, orthogonal to r and as long.
        scale: s, the distance of neighbouring cells in lengths of r.
    """

    picture: tuple[tuple[bool, ...], ...]
    origin: tuple[Tensor, ...]
    right: tuple[Tensor, ...]
    up: tuple[Tensor, ...]
    scale: float

    def weights(self, x: float, y: float) -> list[Tensor]:
        """Return the weights at column x and row y, which need not be whole."""
        across = len(self.picture[0]) - 1, len(self.picture) - 1
        return _at(
            self.origin, self.right, self.up, self.scale, x - across[0] / 2, y - across[1] / 2
        )

    def losses(self, objective: Objective, *, recalibrate: bool = True) -> list[list[float]]:
        """Return the loss of each cell, in the picture's shape.

        Args:
            objective: whose model the pattern was found for.
            recalibrate: whether batch-norm statistics are recomputed for every cell.
        """
        here = [p.detach() for p in objective.trainable()]
        apart = [torch.zeros_like(p) for p in here]
        rows = []
        with objective.around([apart], recalibrate=recalibrate) as loss_at:
            start = [p.clone() for p in here]
            for y, cells in enumerate(self.picture):
                row = []
                for x in range(len(cells)):
                    for d, w, p in zip(apart, self.weights(x, y), start, strict=True):
                        d.copy_(w - p)
                    row.append(loss_at((1.0,)))
                rows.append(row)
        return rows


def find_pattern(
    model: nn.Module,
    loss: Callable[[Any, Any], Tensor],
    picture: Sequence[Sequence[bool]],
    batch_at: Callable[[int], Any],
    *,
    steps: int,
    lr: float = 1e-3,
    cells: int = 50,
    ceiling: float = 2.0,
    weight: float = 1.0,
    scale: float = 0.1,
    seed: int = 0,
    progress: Progress | None = None,
) -> Pattern:
    r"""Find a plane on which the loss is low where a picture is True and high where it is not.

    Multi-point optimisation: each step draws up to ``cells`` cells of either kind and lowers, by
    Adam on one batch,

    :math:`\mathrm{mean}_{low} L(w(x, y)) - c\, \mathrm{mean}_{high} \min(L(w(x, y)), M)`

    with respect to the origin, both directions and the scale; a high cell that reached the
    ceiling M is left alone. The second direction is the part of its parameter orthogonal to the
    first, as long as the first. Gradients are clipped at norm 10. Skorokhodov & Burtsev, "Loss
    Landscape Sightseeing with Multi-Point Optimization", 2019, arXiv 1910.03867, and the authors'
    code ("up_orthogonal"; x and y are counted from the picture's middle).

    The origin begins at the model's weights and the directions at fresh normal vectors with the
    lengths of its tensors. Cells are computed in training mode, their batch-norm statistics are
    thrown away. The model is left bitwise as it was. Memory for one cell's graph at a time.

    Args:
        model: the network; its trainable parameters span the plane.
        loss: ``loss(model, batch)``, the mean loss of a batch.
        picture: rows of the same length, with both True and False unless it is all of one kind.
        batch_at: the training batch of a step, from 0.
        steps: how many.
        lr: of Adam.
        cells: at most so many of a kind a step.
        ceiling: M.
        weight: c.
        scale: s at the start.
        seed: of the directions, the cells, and of what the model draws at random.
        progress: told how many of how many steps are done.

    Raises:
        UsageError: an impossible argument, or a loss that is not finite.
    """
    rows = tuple(tuple(bool(cell) for cell in row) for row in picture)
    if not rows or not rows[0] or any(len(row) != len(rows[0]) for row in rows):
        raise UsageError("a picture needs rows of the same length, with one cell at least")
    if min(steps, cells) < 1 or not min(lr, scale) > 0 or not weight >= 0 or math.isnan(ceiling):
        raise UsageError(
            "a pattern needs steps and cells of at least 1, a positive lr and scale, a weight of "
            f"at least 0 and a ceiling; found {steps}, {cells}, {lr}, {scale}, {weight}, {ceiling}"
        )
    module: nn.Module = getattr(model, "_orig_mod", model)
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not named:
        raise UsageError("no parameter of the model requires a gradient: nothing spans a plane")
    random = generator(seed, "pattern")
    middle = (len(rows[0]) - 1) / 2, (len(rows) - 1) / 2
    kinds: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            kinds[cell].append((x - middle[0], y - middle[1]))
    origin = [p.detach().clone().requires_grad_() for p in named.values()]
    right, other = ([_like(p, random) for p in origin] for _ in range(2))
    size = torch.tensor(scale, dtype=origin[0].dtype, device=origin[0].device, requires_grad=True)
    leaves = [*origin, *right, *other, size]
    optimizer = torch.optim.Adam(leaves, lr=lr)
    buffers = {name: b.detach() for name, b in module.named_buffers()}
    with (
        restored(module),
        dense_gradients(module),
        GlobalStream(seed, origin[0].device),
        torch.enable_grad(),
    ):
        module.train()
        for step in range(steps):
            batch = batch_at(step)
            optimizer.zero_grad()
            for low, places in kinds.items():
                order = torch.randperm(len(places), generator=random)[:cells].tolist()
                for i in order:
                    up = _upward(right, other)
                    point = _at(origin, right, up, size, *places[i])
                    # Copies take the statistics that training mode writes.
                    values = dict(zip(named, point, strict=True)) | {
                        name: b.clone() for name, b in buffers.items()
                    }
                    one = functional_call(_Loss(module, loss), _inside(values), (batch,))
                    if not bool(one.isfinite()):
                        raise UsageError(
                            f"the loss of a cell is {one.item()} at step {step}; take a "
                            "smaller lr or scale"
                        )
                    part = one if low else -weight * one.clamp(max=ceiling)
                    (part / len(order)).backward()
            torch.nn.utils.clip_grad_norm_(leaves, 10.0)
            optimizer.step()
            if progress is not None:
                progress(step + 1, steps)
    with torch.no_grad():
        up = _upward(right, other)
    found = (tuple(x.detach() for x in part) for part in (origin, right, up))
    return Pattern(rows, *found, scale=size.item())


class _Loss(nn.Module):
    """The loss as a module, for calls with other weights."""

    def __init__(self, model: nn.Module, loss: Callable[[Any, Any], Tensor]) -> None:
        super().__init__()
        self.model, self._loss = model, loss

    def forward(self, batch: Any) -> Tensor:
        return self._loss(self.model, batch).reshape(())


def _inside(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"model.{name}": x for name, x in values.items()}


def _like(p: Tensor, random: torch.Generator) -> Tensor:
    """Return a normal tensor as long as another, of length 1 for zeros."""
    drawn = torch.randn(p.shape, generator=random, dtype=torch.float64)
    length = float(torch.linalg.vector_norm(p.detach())) or 1.0
    return (drawn * (length / drawn.norm())).to(p.device, p.dtype).requires_grad_()


def _inner(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    return torch.stack([(a * b).sum() for a, b in zip(one, other, strict=True)]).sum()


def _upward(right: Sequence[Tensor], other: Sequence[Tensor]) -> list[Tensor]:
    """Return the part of a direction orthogonal to the first, as long as the first."""
    square = _inner(right, right)
    along = _inner(other, right) / square
    rest = [b - along * a for a, b in zip(right, other, strict=True)]
    factor = (square / _inner(rest, rest)).sqrt()
    return [factor * x for x in rest]


def _at(
    origin: Sequence[Tensor],
    right: Sequence[Tensor],
    up: Sequence[Tensor],
    scale: Tensor | float,
    x: float,
    y: float,
) -> list[Tensor]:
    return [o + scale * (x * r + y * u) for o, r, u in zip(origin, right, up, strict=True)]
