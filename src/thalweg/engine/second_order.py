"""Curvature of a loss: Hessians, Gauss-Newton matrices, random probes of their diagonals."""

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from thalweg.core.seeds import generator
from thalweg.engine.closure import ClosureOptimizer, Evaluations, Tensors, flatten
from thalweg.engine.distributed import like
from thalweg.engine.one_vector import vector

# Rows of a Jacobian that are computed at once: more is faster, and takes more memory.
_ROWS = 64


class Probes:
    """Random vectors shaped like the parameters, drawn anew for each purpose and step.

    A parameter's draw depends on the seed, what it is for, and the parameter's name (its place
    if it has none), so that neither the order of parameters nor their sharding changes it.

    Args:
        optimizer: whose parameters.
        seed: of all draws.
        stream: what they are for.
    """

    def __init__(self, optimizer: ClosureOptimizer, seed: int, *stream: str | int) -> None:
        self._seed, self._stream = seed, stream
        groups = optimizer.param_groups
        everyone = [p for group in groups for p in group["params"]]
        names = [name for group in groups for name in group.get("param_names", ())]
        named = zip(names or range(len(everyone)), everyone, strict=True)
        self._named = [(name, p) for name, p in named if p.requires_grad]

    def signs(self, *stream: str | int) -> list[Tensor]:
        """Return -1 and 1, equally likely."""
        return self._drawn(_signs, *stream)

    def normals(self, *stream: str | int) -> list[Tensor]:
        """Return standard normal numbers."""
        return self._drawn(torch.randn, *stream)

    def _drawn(self, draw: Callable[..., Tensor], *stream: str | int) -> list[Tensor]:
        drawn = []
        for name, p in self._named:
            random = generator(self._seed, *self._stream, *stream, name)
            x = draw(p.shape, generator=random, dtype=torch.float32)
            drawn.append(like(x.to(p.device, p.dtype), p.detach()))
        return drawn


def _signs(size: torch.Size, *, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    return 2 * torch.randint(2, size, generator=generator, dtype=dtype) - 1


def hessian_product(
    gradients: Tensors, params: Tensors, vectors: Tensors, create_graph: bool = False
) -> list[Tensor]:
    """Return the Hessian times a vector, given the gradients with their graph, which stays.

    Args:
        gradients: of the loss; or any tensors, and the product is of their derivative.
        params: by which they are differentiated.
        vectors: one for each gradient.
        create_graph: whether the product has a graph of its own.
    """
    live = [(g, v) for g, v in zip(gradients, vectors, strict=True) if g.requires_grad]
    if not live:
        return [torch.zeros_like(p) for p in params]
    return list(_derivatives([g for g, _ in live], params, [v for _, v in live], create_graph))


def with_graph(evaluations: Evaluations) -> tuple[float, list[Tensor], Tensor]:
    """Return the loss, its gradients with their graph, and these as a vector without."""
    value, gradients = evaluations.graph()
    return float(value), gradients, vector(gradients)


def hutchinson(gradients: Tensors, params: Tensors, samples: int, probes: Probes) -> list[Tensor]:
    """Return the mean of ``z (H z)`` over some random signs z, whose expectation is diag H."""
    mean = [torch.zeros_like(p) for p in params]
    for sample in range(samples):
        signs = probes.signs(sample)
        products = hessian_product(gradients, params, signs)
        for x, z, product in zip(mean, signs, products, strict=True):
            x.addcmul_(z, product, value=1 / samples)
    return mean


def hessian(gradients: Tensors, params: Tensors) -> Tensor:
    """Return the whole Hessian, d x d, in the order of the flattened parameters."""
    rows = _jacobian(gradients, params)
    return (rows + rows.mT) / 2


class Linearised:
    """A model's outputs to first order around its parameters, and the loss in them to second.

    With J the derivative of the n outputs by the d parameters, r and Q the gradient and the
    Hessian of the loss by the outputs: the gradient of the loss is J^T r, the generalised
    Gauss-Newton matrix J^T Q J. Terms of the loss that are not computed from the outputs are in
    the gradient and not in the matrix; the penalty of weight decay is in neither. Vectors are
    flat and float32 at least.

    Attributes:
        loss: the loss.
        outputs: the outputs, with their graph.
    """

    def __init__(self, evaluations: Evaluations) -> None:
        self.params = evaluations.params
        self.loss, self.outputs = evaluations.outputs()
        self._by_output = _derivatives([self.loss], [self.outputs], create_graph=True)[0]

    @property
    def residual(self) -> Tensor:
        """r, shape (n,)."""
        return vector([self._by_output])

    @cached_property
    def gradient(self) -> Tensor:
        """The gradient, shape (d,)."""
        return vector(_derivatives([self.loss], self.params))

    @cached_property
    def jacobian(self) -> Tensor:
        """J, shape (n, d)."""
        return _jacobian([self.outputs], self.params)

    @cached_property
    def output_hessian(self) -> Tensor:
        """Q, shape (n, n)."""
        return hessian([self._by_output], [self.outputs])

    def penalised(self, x: Tensor, decay: float) -> tuple[float, Tensor]:
        """Return the loss and the gradient with the penalty ``decay / 2 |x|^2``."""
        loss = self.loss.item() + 0.5 * decay * torch.dot(x, x).item()
        return loss, self.gradient + decay * x

    def gauss_newton(self) -> Tensor:
        """Return J^T Q J, shape (d, d)."""
        return self.jacobian.mT @ self.output_hessian @ self.jacobian

    def product(self, v: Tensor) -> Tensor:
        """Return J^T Q J v without any of the matrices."""
        along = _derivatives([self._pulled_back[1]], [self._pulled_back[0]], [v])
        curved = hessian_product([self._by_output], [self.outputs], along)
        return vector(_derivatives([self.outputs], self.params, curved))

    @cached_property
    def _pulled_back(self) -> tuple[Tensor, Tensor]:
        """A vector u of outputs and J^T u as a function of it, whose derivative is J."""
        u = torch.zeros_like(self.outputs, requires_grad=True)
        with torch.enable_grad():
            pulled = _derivatives([self.outputs], self.params, [u], create_graph=True)
            return u, vector(pulled)


def _derivatives(
    outputs: Tensors,
    inputs: Tensors,
    weights: Sequence[Tensor] | None = None,
    create_graph: bool = False,
) -> tuple[Tensor, ...]:
    return torch.autograd.grad(
        outputs,
        inputs,
        weights,
        retain_graph=True,
        create_graph=create_graph,
        materialize_grads=True,
    )


def _jacobian(outputs: Tensors, inputs: Tensors) -> Tensor:
    """Return the derivatives of all outputs by all inputs, one row for each entry."""
    with torch.enable_grad():
        flat = flatten(outputs)
    n, d = len(flat), sum(x.numel() for x in inputs)
    rows = vector([flat.new_zeros(n, d)]).reshape(n, d)
    if not flat.requires_grad:
        return rows
    for first in range(0, n, _ROWS):
        some = torch.eye(n, dtype=flat.dtype, device=flat.device)[first : first + _ROWS]
        found = torch.autograd.grad(
            flat, inputs, some, retain_graph=True, allow_unused=True, is_grads_batched=True
        )
        parts = [
            rows.new_zeros(len(some), x.numel()) if row is None else row.reshape(len(some), -1)
            for x, row in zip(inputs, found, strict=True)
        ]
        rows[first : first + _ROWS] = torch.cat(parts, 1)
    return rows


def shifted(matrix: Tensor, by: float) -> Tensor:
    """Return ``matrix + by I``."""
    return matrix + by * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)


def eigenpairs(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues, ascending, and eigenvectors in columns; NaN for what is not finite."""
    if not matrix.isfinite().all():
        return torch.full_like(matrix[0], torch.nan), torch.full_like(matrix, torch.nan)
    return tuple(torch.linalg.eigh(matrix))  # type: ignore[return-value]


def conjugate_gradients(
    product: Callable[[Tensor], Tensor], b: Tensor, iterations: int, tolerance: float
) -> Tensor:
    """Solve ``A x = b`` from 0, for a positive definite A of which products are known.

    Args:
        product: A times a vector.
        b: the right side.
        iterations: at most so many products.
        tolerance: ends when the residual is no larger than this times b.
    """
    x, r, d = torch.zeros_like(b), b.clone(), b.clone()
    square = first = r @ r
    for _ in range(iterations):
        if square <= tolerance**2 * first:
            break
        along = product(d)
        rate = square / (d @ along)
        x, r = x + rate * d, r - rate * along
        square, last = r @ r, square
        d = r + square / last * d
    return x


def krylov(
    product: Callable[[Tensor], Tensor], first: Tensor, size: int, more: Tensor
) -> tuple[Tensor, Tensor]:
    """Return an orthonormal basis V of a Krylov space in columns, and A V.

    Args:
        product: A times a vector.
        first: the vector b of the space of b, A b, ..., A^(size - 1) b.
        size: its dimension, less if it closes before.
        more: a vector that the basis spans besides, if it is not zero.
    """
    basis, image = first.new_zeros(len(first), 0), first.new_zeros(len(first), 0)
    rest = first
    for _ in range(size):
        basis, image, grown = _extended(basis, image, rest, product)
        if not grown:
            break
        rest = image[:, -1]
    basis, image, _ = _extended(basis, image, more, product)
    return basis, image


def _extended(
    basis: Tensor, image: Tensor, x: Tensor, product: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, bool]:
    """Add the part of a vector that the basis does not span, unless that is rounding alone."""
    size = torch.linalg.vector_norm(x)
    for _ in range(2):  # the second time removes what rounding left of the first
        x = x - basis @ (basis.mT @ x)
    length = torch.linalg.vector_norm(x)
    if length <= 100 * torch.finfo(x.dtype).eps * size:
        return basis, image, False
    x = (x / length).unsqueeze(-1)
    return torch.cat([basis, x], 1), torch.cat([image, product(x[:, 0]).unsqueeze(-1)], 1), True
