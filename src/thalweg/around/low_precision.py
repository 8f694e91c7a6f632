"""Training in numbers of few bits, around any optimiser that reads gradients."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.around.wrapper import Wrapper
from thalweg.core.checks import check_flag, check_whole
from thalweg.core.errors import UsageError
from thalweg.engine.block_floating_point import block_quantised
from thalweg.engine.distributed import is_distributed

_MOMENTA = ("momentum", "momentum_buffer", "m", "exp_avg")


class LowPrecision(Wrapper):
    r"""Weights, gradients, momentum, activations and errors in block floating point.

    Each step, :math:`g \leftarrow Q(g)`, the base steps, and :math:`w \leftarrow Q(w)` and the
    momentum (state called ``momentum``, ``momentum_buffer``, ``m`` or ``exp_avg``)
    :math:`m \leftarrow Q(m)`, with Q the stochastic rounding of
    `thalweg.engine.block_floating_point.block_quantised`. In the forward pass of training the
    outputs of linear, convolution and norm layers are rounded, and in the backward pass the errors
    that come to them. ``p.grad`` is as it was afterwards. The arithmetic is simulated: numbers are
    those of b bits, their memory and time are not. With `thalweg.average.SWA`, which averages the
    low-precision weights in full precision, it is SWALP: Yang et al., "SWALP: Stochastic Weight
    Averaging in Low-Precision Training", ICML 2019, arXiv:1904.11943, with 8 bits throughout. The
    authors round weights twice, to accumulate and to compute; with as many bits for both the second
    changes nothing but at the edge of a block's exponent, and it is left out.

    Args:
        base: the optimiser that steps.
        bits: b, at least 2, of everything.
        activations: whether activations and errors are rounded too; needs ``model``.
        model: the model whose layers round.

    Raises:
        UsageError: an impossible value, a base that needs a closure, sharded weights, or
            activations without a model.
    """

    slug = "low-precision"

    def __init__(
        self,
        base: torch.optim.Optimizer,
        bits: int = 8,
        activations: bool = True,
        model: nn.Module | None = None,
    ) -> None:
        self.check_hyper(bits, activations)
        super().__init__(base)
        if self.needs_closure:
            raise UsageError(
                f"{type(base).__name__} computes gradients itself, and so never sees rounded ones; "
                "LowPrecision goes around a rule that reads gradients"
            )
        if activations and model is None:
            raise UsageError(
                "LowPrecision rounds activations of a model: pass model=..., or activations=False"
            )
        if any(is_distributed(p) for p in self.parameters()):
            raise UsageError("LowPrecision takes whole weights, found some spread over processes")
        self.bits = bits
        self._steps = [0]
        if activations and model is not None:
            _round_layers(model, bits, self._steps)

    @staticmethod
    def check_hyper(bits: int = 8, activations: bool = True) -> None:
        """Raise a `UsageError` unless these hyper-parameters are possible."""
        check_whole("low-precision: bits", bits, least=2)
        check_flag("low-precision: activations", activations)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Round the gradients, let the base step, round weights and momentum.

        Args:
            closure: called once, with gradients enabled, before.

        Returns:
            What the closure returned, or the base.
        """
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        elif self._only_sets_up_state():
            return self._step_base()
        params = list(self.parameters())
        exact = [p.grad for p in params]
        step = self._steps[0]
        try:
            for i, p in enumerate(params):
                if p.grad is not None:
                    p.grad = block_quantised(p.grad, self.bits, step, 3 * i)
            found = self._step_base()
        finally:
            for p, grad in zip(params, exact, strict=True):
                p.grad = grad
        for i, p in enumerate(params):
            if p.grad is None:
                continue
            p.copy_(block_quantised(p, self.bits, step, 3 * i + 1))
            for name in _MOMENTA:
                x = self.state.get(p, {}).get(name)
                if isinstance(x, Tensor) and x.shape == p.shape:
                    x.copy_(block_quantised(x, self.bits, step, 3 * i + 2))
        self._steps[0] += 1
        return found if closure is None else result

    def _own_state(self) -> dict[str, Any]:
        return {"steps": self._steps[0]}

    def _prepared(self, own: Any) -> Any:
        if own is None:
            raise UsageError(
                'the saved state has no "low-precision": it is not that of a LowPrecision; save '
                "what this optimiser's own state_dict() returns"
            )
        return own["steps"]

    def _load(self, prepared: Any) -> None:
        self._steps[0] = prepared  # in place: the layers look at it


class _Rounded(torch.autograd.Function):
    """Rounds what passes, and the error that comes back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: int, step: int, salt: int) -> Tensor:
        ctx.numbers = bits, step, salt
        return block_quantised(x, bits, step, salt)

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> Any:
        bits, step, salt = ctx.numbers
        return block_quantised(errors[0], bits, step, salt + 1), None, None, None


def _round_layers(model: nn.Module, bits: int, steps: list[int]) -> None:
    kinds = (nn.Linear, nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.LayerNorm)

    def rounding(salt: int) -> Callable[..., Any]:
        def hook(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
            del inputs
            if not (layer.training and torch.is_grad_enabled() and output.requires_grad):
                return None
            return _Rounded.apply(output, bits, steps[0], salt)  # type: ignore[return-value]

        return hook

    for i, layer in enumerate(module for module in model.modules() if isinstance(module, kinds)):
        layer.register_forward_hook(rounding(-2 * i - 2))  # salts of their own, beside weights'
