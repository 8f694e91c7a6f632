"""What data-weighted merges know about each model: Fisher diagonals and Gram matrices."""

import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.landscape import Objective
from thalweg.landscape.curvature import gauss_newton_diagonal
from thalweg.merge.method import Weights


def fisher_diagonal(
    objective: Objective, weights: Weights | None = None, *, draws: int | None = None, seed: int = 0
) -> dict[str, Tensor]:
    r"""Return the diagonal of the Fisher matrix of a classifier, by parameter name, float64.

    :math:`F = \frac1N \sum_x \sum_y p(y | x) (\nabla \log p(y | x))^2`, in evaluation mode, with
    gradients of single samples and the exact sum over classes; see
    `thalweg.landscape.curvature.gauss_newton_diagonal`.

    Args:
        objective: the loss on the model's data.
        weights: weights to take it at, as of ``state_dict``; the model's own unless given.
        draws: random combinations in place of the exact sum; faster with many classes.
        seed: of the draws.

    Raises:
        UsageError: as `gauss_newton_diagonal`, or weights that are not the model's.
    """
    module = objective.module
    with _at(module, weights):
        flat = gauss_newton_diagonal(objective, draws=draws, likelihood="categorical", seed=seed)
    # Roundings of near-certain predictions leave entries just below 0.
    flat = flat.clamp(min=0)
    found, start = {}, 0
    for name, p in module.named_parameters():
        if p.requires_grad:
            found[name] = flat[start : start + p.numel()].reshape(p.shape)
            start += p.numel()
    return found


def input_grams(objective: Objective, weights: Weights | None = None) -> dict[str, Tensor]:
    r"""Return :math:`X^\top X / n` of every linear layer's inputs, by its weight's name, float64.

    Rows of X are all samples and positions; shape (in, in) each.

    Args:
        objective: the loss on the model's data.
        weights: weights to take them at; the model's own unless given.

    Raises:
        UsageError: the loss calls no linear layer, or weights that are not the model's.
    """
    module = objective.module
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def recorder(name: str):
        def record(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            x = args[0].detach().reshape(-1, args[0].shape[-1]).double()
            sums[name] = sums.get(name, torch.zeros((), dtype=torch.float64)) + x.mT @ x
            counts[name] = counts.get(name, 0) + len(x)

        return record

    hooks = [
        layer.register_forward_pre_hook(recorder(f"{name}.weight" if name else "weight"))
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear)
    ]
    try:
        with _at(module, weights):
            objective.value()
    finally:
        for hook in hooks:
            hook.remove()
    if not sums:
        raise UsageError("the loss calls no linear layer, so there are no Gram matrices")
    return {name: total / counts[name] for name, total in sums.items()}


class _at:  # noqa: N801
    """Put weights into a model while the block lasts."""

    def __init__(self, module: nn.Module, weights: Weights | None) -> None:
        self._module, self._weights = module, weights

    def __enter__(self) -> None:
        if self._weights is None:
            return
        self._kept = {n: x.detach().clone() for n, x in self._module.state_dict().items()}
        try:
            self._module.load_state_dict(dict(self._weights))
        except RuntimeError as error:
            self._module.load_state_dict(self._kept)
            raise UsageError(f"these are not the model's weights: {error}") from None

    def __exit__(self, *error: object) -> None:
        if self._weights is not None:
            self._module.load_state_dict(self._kept)
