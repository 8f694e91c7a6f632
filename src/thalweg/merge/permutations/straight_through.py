"""Straight-through matching: the permutation is learned by the loss half way between."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from thalweg.core.checks import check_number, check_whole
from thalweg.merge.method import Weights
from thalweg.merge.permutations.matching import Matching
from thalweg.merge.permutations.repair import running
from thalweg.merge.permutations.structure import Structure
from thalweg.merge.permutations.weight_matching import check_pair, weight_matching

if TYPE_CHECKING:
    from thalweg.landscape import Objective


def straight_through(
    objective: Objective,
    structure: Structure,
    first: Weights,
    second: Weights,
    *,
    steps: int = 200,
    lr: float = 1e-2,
    momentum: float = 0.9,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Matching:
    r"""Return the permutations with the least loss half way between two networks, as found.

    A free network :math:`\hat w`, at first the first one, is trained: each step matches the second
    network's weights with it (from the last permutations on), takes the loss at
    :math:`(w_A + P(w_B)) / 2`, and moves :math:`\hat w` by that gradient as if it stood in the
    place of :math:`P(w_B)`, with SGD with momentum. The permutations of the batch with the least
    loss are returned. Ainsworth, Hayase & Srinivasa, "Git Re-Basin", ICLR 2023, arXiv:2209.04836,
    section 3.3; learning rate and momentum are those of the authors' script, which takes 250
    epochs of batches of 1,000.

    Batches follow one another as in ``objective.batches``. Batch norm uses each batch's own
    statistics, since neither network's belong to the mean.

    Args:
        objective: the loss on training data.
        structure: of the network.
        first: a state dict.
        second: another, to be permuted.
        steps: a batch each.
        lr: the learning rate.
        momentum: of SGD.
        seed: of the order in which groups are matched.
        progress: told how many of how many steps are done.

    Raises:
        UsageError: as `weight_matching`, or an impossible setting.
    """
    check_whole("steps", steps, 1)
    check_number("lr", lr, "(0, inf)")
    check_number("momentum", momentum, "[0, 1)")
    check_pair(structure, first, second)
    module = objective.module
    free = {name: first[name].detach().clone() for name, _ in module.named_parameters()}
    velocity = {name: torch.zeros_like(x) for name, x in free.items()}
    now = structure.identity()
    best, losses = now, []
    with running(objective, None):
        trainable = objective.trainable()
        for layer in module.modules():
            if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                layer.train()
        for step in range(steps):
            target = {**first, **free}
            now = weight_matching(structure, target, second, start=now, seed=seed).permutations
            moved = structure.apply(second, now)
            for name, p in module.named_parameters():
                p.copy_(torch.lerp(first[name].to(p), moved[name].to(p), 0.5))
            with torch.enable_grad():
                loss = objective.loss_of(objective.batches[step % len(objective.batches)])
                gradients = torch.autograd.grad(loss, trainable)
            of = {id(p): g for p, g in zip(trainable, gradients, strict=True)}
            value = float(loss)
            if value < min(losses, default=math.inf):
                best = now
            losses.append(value)
            for name, p in module.named_parameters():
                if id(p) in of:
                    velocity[name].mul_(momentum).add_(of[id(p)].to(velocity[name]), alpha=0.5)
                    free[name].sub_(velocity[name], alpha=lr)
            if progress is not None:
                progress(step + 1, steps)
    return Matching(best, tuple(-value for value in losses), "straight-through", steps)
