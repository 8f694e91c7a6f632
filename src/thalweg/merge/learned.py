"""Learned soups: mixing coefficients by gradient descent on held-out data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from thalweg.core.checks import check_flag, check_number, check_whole
from thalweg.merge.method import Evidence, Merge, Piece, Weights
from thalweg.merge.soup import UniformSoup


@dataclass(frozen=True)
class LearnedSoup(Merge):
    r"""The mean whose weights minimise the held-out loss.

    :math:`\min_{a, \beta} \sum_b \ell(\beta f(x_b; \sum_i \alpha_i w_i), y_b)`, with
    :math:`\alpha = softmax(a)` from equal weights and a temperature :math:`\beta` of the model's
    outputs (left out of the result: it changes no ranking of classes), by AdamW over the batches
    in their order. All models are in memory while it learns. Wortsman et al., "Model soups", ICML
    2022, arXiv:2203.05482, section 3 and appendix; the softmax is our reading of "mixing
    coefficients".

    Args:
        lr: of AdamW, the paper's.
        epochs: passes over the batches, the paper's.
        temperature: whether :math:`\beta` is learnt too.
        by_tensor: whether every tensor has coefficients of its own.

    Raises:
        UsageError: impossible settings.
    """

    lr: float = 0.1
    epochs: int = 3
    temperature: bool = True
    by_tensor: bool = False
    chooses: ClassVar[Literal["score", "objective"] | None] = "objective"

    def __post_init__(self) -> None:
        check_number("learned-soup: lr", self.lr, "[0, inf)")
        check_whole("learned-soup: epochs", self.epochs, least=0)
        check_flag("learned-soup: temperature", self.temperature)
        check_flag("learned-soup: by_tensor", self.by_tensor)

    def choose(self, models: Sequence[Weights], evidence: Evidence) -> Merge:
        """Return the soup of the learnt coefficients."""
        assert evidence.objective is not None
        objective = evidence.objective
        module = objective.module
        names = [name for name, p in module.named_parameters() if p.is_floating_point()]
        rows = len(names) if self.by_tensor else 1
        logits = torch.zeros(rows, len(models), requires_grad=True)
        beta = torch.ones((), requires_grad=True)
        learnt = [logits, beta] if self.temperature else [logits]
        optimizer = torch.optim.AdamW(learnt, lr=self.lr, weight_decay=0.0)
        wrapped = _WithLoss(module, objective.loss)
        stacks = [torch.stack([m[name].detach() for m in models]) for name in names]
        buffers = {f"model.{n}": b for n, b in _buffers(module, models).items()}
        with objective.differentiable():
            hook = module.register_forward_hook(lambda _m, _a, out: _scaled(out, beta))
            try:
                for _ in range(self.epochs):
                    for batch in objective.batches:
                        alpha = torch.softmax(logits, 1)
                        mixed = {
                            f"model.{name}": torch.tensordot(
                                alpha[i if self.by_tensor else 0].to(stack), stack, 1
                            )
                            for i, (name, stack) in enumerate(zip(names, stacks, strict=True))
                        }
                        loss = torch.func.functional_call(wrapped, {**mixed, **buffers}, (batch,))
                        optimizer.zero_grad()
                        loss.backward(inputs=learnt)
                        optimizer.step()
            finally:
                hook.remove()
        alpha = torch.softmax(logits.detach().double(), 1)
        if not self.by_tensor:
            return UniformSoup(tuple(alpha[0].tolist()))
        table = {name: tuple(a) for name, a in zip(names, alpha.tolist(), strict=True)}
        return SoupByTensor(tuple(table.items()))

    def combine(self, piece: Piece, measured: None) -> Tensor:
        """Never called: `choose` returns a soup."""
        raise AssertionError("a learned soup chooses first")


@dataclass(frozen=True)
class SoupByTensor(Merge):
    """A mean with weights of its own for every tensor; equal ones for the rest."""

    table: tuple[tuple[str, tuple[float, ...]], ...] = ()

    def combine(self, piece: Piece, measured: None) -> Tensor:
        """Return the tensor's mean."""
        return UniformSoup(dict(self.table).get(piece.name)).combine(piece, measured)


class _WithLoss(nn.Module):
    """Lets the loss of a model be called with other weights."""

    def __init__(self, model: nn.Module, loss: Any) -> None:
        super().__init__()
        self.model, self._loss = model, loss

    def forward(self, batch: Any) -> Tensor:
        return self._loss(self.model, batch)


def _buffers(module: nn.Module, models: Sequence[Weights]) -> dict[str, Tensor]:
    """Return the buffers to learn with: the models' mean, as the merge will have."""
    found = {}
    for name, own in module.named_buffers():
        each = [weights[name] for weights in models if name in weights]
        if each and own.is_floating_point():
            found[name] = torch.stack(each).mean(0)
    return found


def _scaled(out: Any, beta: Tensor) -> Any:
    return out * beta.to(out) if isinstance(out, Tensor) else out
