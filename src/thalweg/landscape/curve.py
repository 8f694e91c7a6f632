"""Curves of low loss between two solutions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError, did_you_mean
from thalweg.core.seeds import generator
from thalweg.core.streams import GlobalStream
from thalweg.landscape.geometry import check_distinct, parameter_names, vectors_of
from thalweg.landscape.memory import check_memory
from thalweg.landscape.mix import Mix, Weights
from thalweg.landscape.objective import Progress
from thalweg.landscape.restored import dense_gradients, restored
from thalweg.landscape.results import Saved

Kind = Literal["bezier", "chain"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Curve(Saved):
    r"""A curve through weight space, :math:`\phi(t) = \sum_j c_j(t) w_j` for t from 0 to 1.

    - "bezier": :math:`c_j(t) = \binom{n}{j} t^j (1 - t)^{n - j}`;
    - "chain": :math:`c_j(t) = \max(0, 1 - |t n - j|)`, straight from point to point;

    with n + 1 points. The first and the last are the ends that it joins.

    Attributes:
        kind: "bezier" or "chain".
        points: weights by name, as of ``state_dict``.
    """

    kind: Kind
    points: tuple[Weights, ...]

    def coefficients(self, t: float) -> tuple[float, ...]:
        """Return c(t); they add up to 1, and are exactly 0 and 1 at the ends."""
        return coefficients(self.kind, len(self.points), t)


def coefficients(kind: Kind, count: int, t: float) -> tuple[float, ...]:
    """Return the weights of a curve's points at t; see `Curve`."""
    n = count - 1
    if kind == "chain":
        return tuple(max(0.0, 1 - abs(t * n - j)) for j in range(count))
    return tuple(math.comb(n, j) * t**j * (1 - t) ** (n - j) for j in range(count))


def connect(
    model: nn.Module,
    loss: Callable[[Any, Any], Tensor],
    ends: tuple[Weights, Weights],
    batch_at: Callable[[int], Any],
    *,
    steps: int,
    kind: Kind = "bezier",
    bends: int = 1,
    lr: float = 0.03,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Curve:
    r"""Train a curve of low loss between two solutions.

    The bends begin evenly spaced on the straight line. Each step draws one t from [0, 1], computes
    the loss of one batch at :math:`\phi(t)` in training mode, and moves every bend against

    :math:`c_j(t) (\nabla L(\phi(t)) + \lambda \phi(t))`

    by SGD with momentum: weight decay is that of the mixed weights. The learning rate is constant
    for half of the steps, then falls linearly to a hundredth at nine tenths. Garipov et al., "Loss
    Surfaces, Mode Connectivity, and Fast Ensembling of DNNs", 2018, arXiv 1802.10026, and the
    authors' code, which this follows in the schedule.

    The model is left bitwise as it was. Its buffers follow along while the curve is trained;
    a bend's are those of the nearer end, so evaluate with statistics that are recalibrated.

    Args:
        model: the network that both ends are weights of.
        loss: ``loss(model, batch)``, the mean loss of a batch.
        ends: weights of the two solutions.
        batch_at: the training batch of a step, from 0.
        steps: how many.
        kind: "bezier" or "chain".
        bends: points between the ends.
        lr: learning rate.
        momentum: of SGD.
        weight_decay: lambda.
        seed: of t, and of what the model draws at random.
        progress: told how many of how many steps are done.

    Raises:
        DegenerateError: the ends coincide.
        UsageError: an impossible argument, weights that are not the model's, or a loss that is
            not finite.
    """
    if kind not in KINDS:
        raise UsageError(f'unknown kind of curve "{kind}".{did_you_mean(kind, KINDS)}')
    if bends < 1 or steps < 1 or not lr > 0 or not 0 <= momentum < 1 or not weight_decay >= 0:
        raise UsageError(
            "a curve needs a bend, a step, a positive lr, a momentum in [0, 1) and a weight_decay "
            f"of at least 0; found {bends}, {steps}, {lr}, {momentum} and {weight_decay}"
        )
    module: nn.Module = getattr(model, "_orig_mod", model)
    check_memory(module)
    both = {"first end": ends[0], "second end": ends[1]}
    check_distinct(list(both), vectors_of(module, both), "curve")
    device = next(module.parameters()).device
    with (
        restored(module),
        dense_gradients(module),
        GlobalStream(seed, device),
        torch.enable_grad(),
    ):
        module.train()
        bent = _Bent(module, both, bends, kind)
        bent.train(loss, batch_at, steps, lr, momentum, weight_decay, seed, progress)
        return Curve(kind, bent.points(ends))


class _Bent:
    """A model on a curve whose bends are trained."""

    def __init__(
        self, module: nn.Module, ends: Mapping[str, Weights], bends: int, kind: Kind
    ) -> None:
        self._kind: Kind = kind
        self._module, self._count = module, bends + 2
        self._params = [p for p in module.parameters() if p.requires_grad]
        self._ends, self._bends = [], []
        mix = Mix(module, ends)
        for unit in ((1.0, 0.0), (0.0, 1.0)):
            mix.write(unit)
            self._ends.append([p.detach().clone() for p in self._params])
        for j in range(1, bends + 1):
            mix.write((1 - j / (bends + 1), j / (bends + 1)))
            self._bends.append([p.detach().clone().requires_grad_() for p in self._params])

    def train(
        self,
        loss: Callable[[Any, Any], Tensor],
        batch_at: Callable[[int], Any],
        steps: int,
        lr: float,
        momentum: float,
        weight_decay: float,
        seed: int,
        progress: Progress | None,
    ) -> None:
        everything = [x for bend in self._bends for x in bend]
        optimizer = torch.optim.SGD(everything, lr=lr, momentum=momentum)
        draws = torch.rand(steps, generator=generator(seed, "curve"), dtype=torch.float64)
        for step, t in enumerate(draws.tolist()):
            optimizer.param_groups[0]["lr"] = lr * _schedule(step / steps)
            mix = coefficients(self._kind, self._count, t)
            self._write(mix)
            value = loss(self._module, batch_at(step))
            if not bool(value.isfinite()):
                raise UsageError(
                    f"the loss is {float(value.detach())} at step {step} of the curve; a smaller "
                    f"lr than {lr} may help"
                )
            gradients = torch.autograd.grad(value, self._params, materialize_grads=True)
            for c, bend in zip(mix[1:-1], self._bends, strict=True):
                for x, g, p in zip(bend, gradients, self._params, strict=True):
                    x.grad = c * (g + weight_decay * p.detach())
            optimizer.step()
            if progress is not None:
                progress(step + 1, steps)

    def points(self, ends: tuple[Weights, Weights]) -> tuple[Weights, ...]:
        """Return the ends as they are, and the bends with the buffers of the nearer end."""
        first = {id(p): name for name, p in self._module.named_parameters()}
        names = parameter_names(self._module)
        between = []
        for j, bend in enumerate(self._bends, 1):
            nearer = ends[0] if 2 * j <= len(self._bends) + 1 else ends[1]
            weights = {name: x.detach().clone() for name, x in nearer.items()}
            for p, x in zip(self._params, bend, strict=True):
                weights |= {name: x.detach().clone() for name in names[first[id(p)]]}
            between.append(weights)
        return (ends[0], *between, ends[1])

    def _write(self, mix: Sequence[float]) -> None:
        here = [p.data for p in self._params]
        parts = [self._ends[0], *self._bends, self._ends[1]]
        torch._foreach_zero_(here)
        for c, part in zip(mix, parts, strict=True):
            torch._foreach_add_(here, [x.detach() for x in part], alpha=c)


def _schedule(progress: float) -> float:
    """Return the share of the learning rate: 1, then linear from one half to nine tenths."""
    if progress <= 0.5:
        return 1.0
    return max(0.01, 1 - 0.99 * (progress - 0.5) / 0.4)
