"""Kronecker-factored Gauss-Newton and Fisher matrices of linear and convolutional layers."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrize import is_parametrized

from thalweg.core.errors import UsageError
from thalweg.core.seeds import generator
from thalweg.landscape.curvature.operators import Likelihood, check_likelihood
from thalweg.landscape.curvature.roots import roots
from thalweg.landscape.objective import Objective

Layer = nn.Linear | nn.Conv1d | nn.Conv2d


@dataclass(frozen=True)
class Factors:
    r"""One layer's block, :math:`B \otimes A` for its weights as a matrix, row by row.

    Attributes:
        layer: the layer's name.
        outer: B, by the layer's outputs, shape (out, out).
        inner: A, by what its weights multiply, shape (in, in); the last row and column belong to
            the bias if it is trainable.
        rows: where in the flattened parameters the matrix of the weights lies, shape (out, in).
    """

    layer: str
    outer: Tensor
    inner: Tensor
    rows: Tensor


class KroneckerFactored:
    r"""A matrix of one Kronecker product a layer, zero between layers and for other parameters.

    Serves wherever an operator does: ``matrix @ v`` takes vectors of shape (n,) or matrices of
    shape (n, k), in the order of the trainable parameters. See `kronecker_factored`.

    Attributes:
        blocks: the factors of each layer.
        left_out: names of the trainable parameters that no block covers.
        shape: (n, n).
        dtype: of the factors.
        device: where they are.
    """

    def __init__(self, blocks: tuple[Factors, ...], left_out: tuple[str, ...], size: int) -> None:
        self.blocks, self.left_out = blocks, left_out
        self.shape = (size, size)
        self.dtype, self.device = blocks[0].outer.dtype, blocks[0].outer.device

    def __matmul__(self, v: Tensor) -> Tensor:
        columns = self._columns(v)
        result = torch.zeros_like(columns)
        for block in self.blocks:
            result[block.rows] = _both_sides(block.outer, columns[block.rows], block.inner)
        return result.reshape(v.shape)

    def solve(self, v: Tensor, damping: float) -> Tensor:
        r"""Return :math:`(K + \delta I)^{-1} v`, exactly, by the factors' eigenvectors.

        Raises:
            UsageError: a damping that is not positive, or a vector of another length.
        """
        if not damping > 0:
            raise UsageError(f"the damping must be positive, found {damping}")
        columns = self._columns(v)
        result = columns / damping
        for block in self.blocks:
            b, u = torch.linalg.eigh(block.outer)
            a, w = torch.linalg.eigh(block.inner)
            scale = (b.clamp(min=0)[:, None] * a.clamp(min=0) + damping).unsqueeze(-1)
            inside = _both_sides(u.mT, columns[block.rows], w.mT) / scale
            result[block.rows] = _both_sides(u, inside, w)
        return result.reshape(v.shape)

    def trace(self) -> float:
        """Return the trace, exactly."""
        return sum(float(b.outer.trace() * b.inner.trace()) for b in self.blocks)

    def diagonal(self) -> Tensor:
        """Return the diagonal, shape (n,)."""
        result = torch.zeros(self.shape[0], dtype=self.dtype, device=self.device)
        for block in self.blocks:
            result[block.rows] = torch.outer(block.outer.diagonal(), block.inner.diagonal())
        return result

    def _columns(self, v: Tensor) -> Tensor:
        if v.ndim not in (1, 2) or len(v) != self.shape[1]:
            raise UsageError(
                f"a product needs a vector of {self.shape[1]} entries or a matrix of as many "
                f"rows, found the shape {tuple(v.shape)}"
            )
        return v.to(self.device, self.dtype).reshape(len(v), -1)


def kronecker_factored(
    objective: Objective,
    *,
    draws: int | None = None,
    likelihood: Likelihood | None = None,
    seed: int = 0,
) -> KroneckerFactored:
    r"""Return the Kronecker-factored Gauss-Newton matrix of the model's linear and conv layers.

    For a layer with weights W (its bias as a last column) whose inputs at sample i and position t
    are :math:`a_{it}` (ending in 1 for the bias; patches for a convolution), with T positions,

    :math:`A = \frac{1}{NT} \sum_{it} a_{it} a_{it}^\top`,
    :math:`B = \frac{1}{N} \sum_{itc} g_{itc} g_{itc}^\top`,

    :math:`g_{itc}` the derivative by the layer's outputs at t of :math:`s_{ic}^\top f_i`,
    f the model's outputs and :math:`\sum_c s_{ic} s_{ic}^\top` the Hessian of sample i's loss by
    them. The block equals the Gauss-Newton matrix's own where a layer has one position and either
    A's terms or B's are the same for all samples; so with one sample. Martens & Grosse,
    "Optimizing Neural Networks with Kronecker-factored Approximate Curvature", 2015, arXiv
    1503.05671; Grosse & Martens, 2016, arXiv 1602.01407 for convolutions, whose factor T is
    within B here; Eschenhagen et al., 2023, arXiv 2311.00636 ("expand") for other positions.

    Covered are `Linear`, `Conv1d` and `Conv2d` layers of one group with trainable weights that no
    other module shares and no parametrisation computes. A layer that is called several times
    counts each call as positions.

    Args:
        objective: the loss, in which samples do not depend on each other.
        draws: how many random combinations of the columns :math:`s_{ic}` to take in place of all;
            see `gauss_newton_diagonal`.
        likelihood: gives the Fisher matrix of this likelihood instead; see `Fisher`.
        seed: of the draws.

    Raises:
        UsageError: no such layer is called, or as `gauss_newton_diagonal`.
    """
    if likelihood is not None:
        check_likelihood(likelihood)
    if draws is not None and draws < 1:
        raise UsageError(f"Kronecker factors need one draw at least, found {draws}")
    random = generator(seed, "kronecker")
    layers = _layers(objective.module)
    inner: dict[str, Tensor] = {}
    outer: dict[str, Tensor] = {}
    positions = dict.fromkeys(layers, 0)
    for index in range(len(objective.sizes)):
        calls: list[tuple[str, Tensor, Tensor]] = []
        hooks = [
            layer.register_forward_hook(_recorder(name, calls)) for name, layer in layers.items()
        ]
        with objective.differentiable():
            try:
                found = roots(objective, index, likelihood)
            finally:
                for hook in hooks:
                    hook.remove()
            for name, inputs, _ in calls:
                a = _multiplied(layers[name], inputs)
                inner[name] = inner.get(name, 0) + a.mT @ a
                positions[name] += len(a)
            for column, weight in found.columns(draws, random) if calls else ():
                slopes = torch.autograd.grad(
                    found.outputs,
                    [out for _, _, out in calls],
                    column,
                    retain_graph=True,
                    materialize_grads=True,
                )
                for (name, _, _), slope in zip(calls, slopes, strict=True):
                    g = _by_position(layers[name], slope)
                    outer[name] = outer.get(name, 0) + weight * (g.mT @ g)
    blocks = []
    places, size = _places(objective.trainable())
    covered: set[int] = set()
    for name, a in inner.items():
        layer = layers[name]
        out = len(layer.weight)
        b = outer.get(name, a.new_zeros(out, out))  # none if the loss is linear in the outputs
        rows = places[id(layer.weight)].reshape(out, -1)
        covered.add(id(layer.weight))
        if _has_bias(layer):
            rows = torch.cat([rows, places[id(layer.bias)].reshape(-1, 1)], 1)
            covered.add(id(layer.bias))
        total = sum(objective.sizes)
        blocks.append(Factors(name, b / total, a / positions[name], rows))
    if not blocks:
        raise UsageError(
            "the loss calls no linear or convolutional layer whose weights are trainable and its "
            "own, so there is nothing to factor"
        )
    names = [n for n, p in objective.module.named_parameters() if p.requires_grad]
    left = [n for n, p in zip(names, objective.trainable(), strict=True) if id(p) not in covered]
    return KroneckerFactored(tuple(blocks), tuple(left), size)


def _recorder(name: str, calls: list[tuple[str, Tensor, Tensor]]) -> Callable[..., None]:
    """Return a hook that adds a layer's input and output to the calls."""

    def record(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        calls.append((name, args[0].detach(), out))

    return record


def _layers(model: nn.Module) -> dict[str, Layer]:
    """Return the layers that can be factored, by name."""
    owners: dict[int, int] = {}
    for module in model.modules():
        for p in module.parameters(recurse=False):
            owners[id(p)] = owners.get(id(p), 0) + 1
    found: dict[str, Layer] = {}
    for name, module in model.named_modules():
        if not isinstance(module, Layer) or getattr(module, "groups", 1) > 1:
            continue
        params = dict(module.named_parameters(recurse=False))
        own = all(owners[id(p)] == 1 for p in params.values())
        # Weights computed from others cannot be factored, and reading them may change buffers.
        plain = "weight" in params and not is_parametrized(module)
        if own and plain and params["weight"].requires_grad:
            found[name] = module
    return found


def _has_bias(layer: Layer) -> bool:
    return layer.bias is not None and layer.bias.requires_grad


def _multiplied(layer: Layer, inputs: Tensor) -> Tensor:
    """Return what the weights multiply, one row a position, with 1 for the bias."""
    if isinstance(layer, nn.Linear):
        rows = inputs.reshape(-1, layer.in_features)
    else:
        rows = _patches(layer, inputs)
    rows = rows if rows.dtype == torch.float64 else rows.float()
    return functional.pad(rows, (0, 1), value=1.0) if _has_bias(layer) else rows


def _patches(layer: nn.Conv1d | nn.Conv2d, inputs: Tensor) -> Tensor:
    flat = isinstance(layer, nn.Conv1d)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    inputs = functional.pad(inputs, layer._reversed_padding_repeated_twice, mode=mode)
    lead = (1,) if flat else ()
    patches = functional.unfold(
        inputs.unsqueeze(-2) if flat else inputs,
        (*lead, *layer.kernel_size),
        dilation=(*lead, *layer.dilation),  # type: ignore[arg-type]
        stride=(*lead, *layer.stride),  # type: ignore[arg-type]
    )
    return patches.mT.reshape(-1, patches.shape[1])


def _by_position(layer: Layer, slope: Tensor) -> Tensor:
    """Return derivatives by the outputs, one row a position."""
    channel = -1 if isinstance(layer, nn.Linear) else 1
    rows = slope.movedim(channel, -1).reshape(-1, slope.shape[channel])
    return rows if rows.dtype == torch.float64 else rows.float()


def _places(params: list[Tensor]) -> tuple[dict[int, Tensor], int]:
    """Return where each parameter's entries lie in the flattened vector, and its length."""
    places, first = {}, 0
    for p in params:
        places[id(p)] = torch.arange(first, first + p.numel(), device=p.device)
        first += p.numel()
    return places, first


def _both_sides(outer: Tensor, matrix: Tensor, inner: Tensor) -> Tensor:
    """Return ``outer M inner'`` for each M along the last dimension, shape (out, in, k)."""
    return torch.einsum("po,oik,ji->pjk", outer, matrix, inner)
