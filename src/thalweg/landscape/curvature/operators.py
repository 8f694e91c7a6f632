"""Second derivatives of an objective as matrices that are only multiplied with."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from thalweg.core.errors import UsageError, did_you_mean
from thalweg.engine.closure import unflatten
from thalweg.engine.one_vector import vector
from thalweg.engine.second_order import Linearised, hessian_product
from thalweg.landscape.curvature.lanczos import signs
from thalweg.landscape.curvature.samples import sample_gradients
from thalweg.landscape.curvature.saved import SavedBytes
from thalweg.landscape.curvature.twice import (
    check_twice,
    check_weight_norm,
    twice_differentiable,
)
from thalweg.landscape.objective import Objective

Likelihood = Literal["categorical", "gaussian"]
LIKELIHOODS: tuple[Likelihood, ...] = get_args(Likelihood)

MEMORY = 2**30
"""Bytes of graphs that an operator keeps between products unless told otherwise."""

Product = Callable[[Tensor], Tensor]


class Curvature:
    """A symmetric matrix over the flattened trainable parameters, by its products with vectors.

    ``operator @ v`` takes and returns vectors of shape (n,) or matrices of shape (n, k), float32
    at least, in the order of ``model.parameters()`` (those with ``requires_grad``, tied ones
    once). It belongs to the weights at which it was made. The graph of a batch is kept from one
    product to the next, which makes a product cost about 1.6 gradients instead of 2.6, while all
    that is kept stays within ``memory``; other batches are evaluated anew each time.

    Args:
        objective: the loss; see `Objective`. Derivatives are those in evaluation mode.
        memory: bytes of graphs to keep.

    Attributes:
        params: the parameters that it is about.
        shape: (n, n).
        products: how many products with a vector were taken.

    Raises:
        UsageError: no parameter is trainable, or the weights were changed after the operator was
            made.
    """

    def __init__(self, objective: Objective, memory: int = MEMORY) -> None:
        self.objective = objective
        self.params = objective.sound()
        size = sum(p.numel() for p in self.params)
        self.shape = (size, size)
        self.products = 0
        self._versions = [p._version for p in self.params]
        self._memory, self._kept = memory, dict[int, Product]()

    @property
    def dtype(self) -> torch.dtype:
        """Return what products are computed in."""
        wide = any(p.dtype == torch.float64 for p in self.params)
        return torch.float64 if wide else torch.float32

    @property
    def device(self) -> torch.device:
        """Return where products are."""
        return self.params[0].device

    def __matmul__(self, v: Tensor) -> Tensor:
        if v.ndim not in (1, 2) or len(v) != self.shape[1]:
            raise UsageError(
                f"a product needs a vector of {self.shape[1]} entries or a matrix of as many "
                f"rows, found the shape {tuple(v.shape)}"
            )
        if [p._version for p in self.params] != self._versions:
            raise UsageError(
                "the weights were changed after this operator was made; make another one"
            )
        moved = v.to(self.device, self.dtype)
        columns = [moved] if v.ndim == 1 else list(moved.unbind(1))
        found: list[Tensor] = []
        total = sum(self.objective.sizes)
        for i, size in enumerate(self.objective.sizes):
            with twice_differentiable():
                product = self._product(i)
                parts = [product(column).to(moved.dtype) for column in columns]
            for j, part in enumerate(parts):
                if i == 0:
                    found.append(part * (size / total) if size < total else part)
                else:
                    found[j].add_(part, alpha=size / total)
        self.products += len(columns)
        return found[0] if v.ndim == 1 else torch.stack(found, 1)

    def first(self, random: torch.Generator) -> Tensor:
        r"""Return a vector that leans towards the largest eigenvalues, for Lanczos' method.

        :math:`J^\top Q u`, for one gradient's cost: Q the Hessian of the loss by the outputs, J
        their derivative by the parameters, u normal and independent for each sample. The large
        eigenvalues of networks come from that part of the Hessian; the vector's covariance
        :math:`J^\top Q^2 J` favours them and singles none out, as a u that samples share would:
        a start that is rich in the second eigenvector and poor in the first one lets Lanczos'
        method stop at the wrong one. A tenth of a vector of random signs is added.
        """
        rest = signs(self, random) / math.sqrt(self.shape[0])
        lean = torch.zeros_like(rest)
        for index, size in enumerate(self.objective.sizes):
            with self.objective.differentiable(), twice_differentiable():
                try:
                    outputs, slope = self._slope(index)
                except UsageError:  # a loss that does not look at outputs
                    return rest
                if slope.requires_grad:
                    u = torch.randn(outputs.shape, generator=random).to(slope)
                    found = torch.autograd.grad(
                        slope, self.params, u, retain_graph=True, materialize_grads=True
                    )
                    lean.add_(vector(found), alpha=size)
        length = torch.linalg.vector_norm(lean)
        return rest if not 0 < float(length) < math.inf else lean.div_(length).add_(rest, alpha=0.1)

    def _slope(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the outputs of a batch and the derivative of its loss by them, with its graph.

        Raises:
            UsageError: the loss does not look at outputs.
        """
        loss, outputs = self.objective.loss_and_outputs(self.objective.batches[index])
        (slope,) = torch.autograd.grad(loss, outputs, create_graph=True, materialize_grads=True)
        return outputs, slope

    def dense(self) -> Tensor:
        """Return the whole matrix, shape (n, n), by n products."""
        return self @ torch.eye(self.shape[0], dtype=self.dtype, device=self.device)

    def _product(self, index: int) -> Product:
        """Return the product of one batch's matrix, kept if there is room."""
        if index in self._kept:
            return self._kept[index]
        saved = SavedBytes()
        with self.objective.differentiable(), saved:
            product = self._of_batch(index)
        if saved.bytes <= self._memory:
            self._memory -= saved.bytes
            self._kept[index] = product
        return product

    def _of_batch(self, index: int) -> Product:
        """Return the product with a vector of the matrix of a batch's mean loss."""
        raise NotImplementedError(f"{type(self).__name__} has no _of_batch")

    def _unflattened(self, v: Tensor) -> list[Tensor]:
        return unflatten(v, self.params)


class Hessian(Curvature):
    r"""The Hessian of the objective, :math:`\nabla^2 L(w)`, by double backward differentiation.

    Pearlmutter, "Fast Exact Multiplication by the Hessian", Neural Computation 1994. Where a
    network is not differentiable (ReLU at 0) derivatives are PyTorch's. See `Curvature` for
    arguments.
    """

    def __init__(self, objective: Objective, memory: int = MEMORY) -> None:
        super().__init__(objective, memory)
        self._slopes: dict[int, tuple[Tensor, Tensor]] = {}

    def _slope(self, index: int) -> tuple[Tensor, Tensor]:
        self._product(index)
        # Its graph has the slope already, so that the first vector costs a backward pass.
        return self._slopes[index] if index in self._slopes else super()._slope(index)

    def _product(self, index: int) -> Product:
        product = super()._product(index)
        if index not in self._kept:
            self._slopes.pop(index, None)
        return product

    def _of_batch(self, index: int) -> Product:
        batch = self.objective.batches[index]
        try:
            loss, outputs = self.objective.loss_and_outputs(batch)
        except UsageError:  # it does not look at outputs, and need not
            loss = outputs = self.objective.loss_of(batch)
        check_twice(loss)
        check_weight_norm(loss)
        slope, *gradients = torch.autograd.grad(
            loss, [outputs, *self.params], create_graph=True, materialize_grads=True
        )
        if outputs is not loss:
            self._slopes[index] = outputs, slope
        return lambda v: vector(hessian_product(gradients, self.params, self._unflattened(v)))


class GaussNewton(Curvature):
    r"""The generalised Gauss-Newton matrix :math:`J^\top Q J`.

    J is the derivative of the model's outputs by the parameters, Q the Hessian of the loss by the
    outputs: positive semidefinite where the loss is convex in them. The outputs are what the
    model's forward call returned: a tensor, or the ``logits`` or first tensor of a structure.
    Terms of the loss that are not computed from the outputs are left out. Schraudolph, "Fast
    Curvature Matrix-Vector Products for Second-Order Gradient Descent", Neural Computation 2002.
    See `Curvature` for arguments.
    """

    def _of_batch(self, index: int) -> Product:
        loss, outputs = self.objective.loss_and_outputs(self.objective.batches[index])
        check_twice(loss)
        return Linearised(_Evaluated(self.params, loss, outputs)).product  # type: ignore[arg-type]


class Fisher(Curvature):
    r"""The Fisher information of a likelihood whose parameters the model's outputs are.

    :math:`\frac1N \sum_i J_i^\top F_i J_i` with :math:`F_i = \mathrm{diag}(p) - p p^\top` for
    "categorical", p the softmax over the last dimension of the outputs, and :math:`F_i = I` for
    "gaussian" of variance 1: expectations over labels drawn from the model, exactly, no sampling.
    Outputs of several positions a sample add up over positions. It does not look at the loss; for
    a mean cross entropy of one label a sample it equals `GaussNewton`. Martens, "New Insights and
    Perspectives on the Natural Gradient Method", JMLR 2020, arXiv 1412.1193.

    Args:
        objective: whose model and batches.
        likelihood: "categorical" or "gaussian".
        memory: see `Curvature`.
    """

    def __init__(
        self, objective: Objective, likelihood: Likelihood = "categorical", memory: int = MEMORY
    ) -> None:
        check_likelihood(likelihood)
        super().__init__(objective, memory)
        self._likelihood: Likelihood = likelihood

    def _of_batch(self, index: int) -> Product:
        _, outputs = self.objective.loss_and_outputs(self.objective.batches[index])
        samples = self.objective.sizes[index]
        loss = likelihood_loss(outputs, self._likelihood) / samples
        check_twice(loss)
        return Linearised(_Evaluated(self.params, loss, outputs)).product  # type: ignore[arg-type]


class EmpiricalFisher(Curvature):
    r"""The mean of :math:`g_i g_i^\top` over samples, :math:`g_i` the gradient of sample i's loss.

    Not the Fisher information: it takes the data's labels in place of the model's (Kunstner et
    al., "Limitations of the Empirical Fisher Approximation", 2019, arXiv 1905.12558). Not centred:
    `gradient_statistics` has the variance. A batch's gradients, shape (samples, n), are kept where
    they fit into ``memory``. See `Curvature` for arguments.
    """

    def _product(self, index: int) -> Product:
        if index in self._kept:
            return self._kept[index]
        g = sample_gradients(self.objective, index).to(self.dtype)

        def product(v: Tensor) -> Tensor:
            return g.mT @ (g @ v) / len(g)

        if g.nbytes <= self._memory:
            self._memory -= g.nbytes
            self._kept[index] = product
        return product


def check_likelihood(likelihood: str) -> None:
    """Raise UsageError unless the likelihood is known."""
    if likelihood not in LIKELIHOODS:
        hint = did_you_mean(likelihood, LIKELIHOODS)
        raise UsageError(f'unknown likelihood "{likelihood}".{hint}')


def likelihood_loss(outputs: Tensor, likelihood: Likelihood) -> Tensor:
    """Return a function of the outputs whose Hessian is the Fisher matrix by them."""
    if likelihood == "gaussian":
        return 0.5 * outputs.square().sum()
    # The Hessian of log-sum-exp is diag(p) - p p'.
    return outputs.logsumexp(-1).sum()


@dataclass(frozen=True)
class _Evaluated:
    """A loss and outputs that are computed already, as `Linearised` takes them."""

    params: Sequence[Tensor]
    loss: Tensor
    values: Tensor

    def outputs(self) -> tuple[Tensor, Tensor]:
        return self.loss, self.values
