"""Steepest descent under a norm."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from thalweg.core.space import Log
from thalweg.engine import Numbers, Rule, RuleOptimizer, State, sign
from thalweg.engine.distributed import gathered, like
from thalweg.engine.orthogonal import orthogonalised
from thalweg.engine.routing import embeddings
from thalweg.engine.rule import require


@dataclass(frozen=True)
class SteepestDescentRule(Rule):
    """The formula of `SteepestDescent`."""

    reads: ClassVar[Literal["element", "tensor"]] = "tensor"

    norm: Literal["auto", "sign", "euclidean", "spectral", "rms-to-rms", "embedding"] = "auto"
    size: Literal["all", "own", "unit", "distance"] = "all"
    d0: float = 1e-6
    ns_steps: int = 5
    exact: bool = False

    def check(self) -> None:
        """Refuse a first distance that is not positive, and no iterations."""
        super().check()
        require(self, "d0", self.d0 > 0, "positive")
        require(self, "ns_steps", self.ns_steps >= 1, "at least 1")

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """Return a copy of the start, where distances are measured."""
        return {"p0": p.detach().clone()} if self.size == "distance" else {}

    def shared(self) -> dict[str, float]:
        """Return the length of the step, and the estimate of the distance for the next one."""
        return {"length": 1.0, "d": self.d0}

    def measure(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> dict[str, Tensor]:
        """Return the dual norm of the gradient, and <g, p0 - p>."""
        sums = {}
        if self.size in ("all", "distance"):
            sums["dual"] = _product(g, like(self._steepest(gathered(g)), g))
        if self.size == "distance":
            sums["along"] = _product(g, s.p0 - p)
        return sums

    def advance(self, shared: MutableMapping[str, float], measured: Mapping[str, float]) -> None:
        """Set the step's length."""
        if self.size == "all":
            shared["length"] = measured["dual"]
        elif self.size == "distance":
            shared["length"] = shared["d"]
            if measured["dual"] != 0:
                # Written with the estimate first, so that a NaN is carried on.
                shared["d"] = max(measured["along"] / measured["dual"], shared["d"])

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return lr times the length, and lr * weight_decay."""
        return k.lr * k.length, k.lr * k.weight_decay

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the steepest direction of length 1, or of the length of its own dual norm."""
        g = gathered(g)
        d = self._steepest(g)
        return d * _product(g, d) if self.size == "own" else d

    def _steepest(self, g: Tensor) -> Tensor:
        """Return the T of norm 1 with the largest <g, T>."""
        if self.norm == "sign":
            return sign(g)
        if self.norm == "euclidean":
            return _unit(g)
        if g.ndim < 2:
            return _unit(g) * g.numel() ** 0.5
        rows, columns = g.flatten(1).shape
        if self.norm == "embedding":
            return _unit(g.flatten(1), dim=1).reshape(g.shape) * columns**0.5
        d = orthogonalised(g, self.exact, self.ns_steps)
        return d if self.norm == "spectral" else d * (rows / max(columns, 1)) ** 0.5


def _unit(x: Tensor, dim: int | None = None) -> Tensor:
    norm = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    return x / torch.where(norm == 0, 1.0, norm)


def _product(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum()


class SteepestDescent(
    RuleOptimizer,
    rule=SteepestDescentRule,
    slug="steepest-descent",
    reference="Bernstein & Newhouse 2024, arXiv 2409.20325",
    space={"lr": Log(1e-4, 1e-1), "weight_decay": Log(1e-3, 1.0)},
):
    r"""Steepest descent under a norm for each layer.

    It is what Adam, Shampoo, Prodigy and plain gradient descent are without their averages::

        T  = argmax of <g, T> over |T| = 1,    |g|* = <g, T>
        p <- (1 - lr weight_decay) p - lr length T

    for a matrix of ``rows`` outputs and ``columns`` inputs with g = U S V^T:

    ============  ==========================  ======================================================
    norm          T                           it is
    ============  ==========================  ======================================================
    "sign"        sign(g)                     the largest entry; Adam and Lion without averages
    "euclidean"   g / |g|                     the root of the sum of squares; gradient descent
    "spectral"    U V^T                       the largest singular value; Shampoo and Muon without
    "rms-to-rms"  (rows / columns)^(1/2)      the same for inputs and outputs measured by their root
                  U V^T                       mean square
    "embedding"   columns^(1/2) u / |u|       the largest root mean square of a row u: an
                  for each row u              embedding's vectors
    ============  ==========================  ======================================================

    "auto" is "rms-to-rms", but for the weights of a model's `nn.Embedding` and `nn.EmbeddingBag`
    "embedding", the norm of maps from one-hot inputs, measured by the sum of their entries, to
    outputs measured by their root mean square. That is known where the model itself is passed, and
    embeddings then have a group of their own; a tensor does not tell, so with tensors or names give
    them one with ``norm="embedding"``. Vectors are measured by their root mean square under the
    last three. The ``length`` is

    - "all": the sum of |g|* over all tensors, which makes this steepest descent under the largest
      of the layers' norms, with 1 / lr as its sharpness;
    - "own": the tensor's |g|*, steepest descent under the layers' norms added in squares;
    - "unit": 1;
    - "distance": d, Prodigy's estimate of the distance to the solution without averages,
      ``d <- max(d, sum <g, p0 - p> / sum |g|*)`` after each step, from d0 on.

    When to use: to study what a norm does, and with large batches. For training there is
    momentum in `Scion`, `Muon` and `Lion`.

    Args:
        params: see `RuleOptimizer`.
        lr: learning rate.
        norm: "auto", "sign", "euclidean", "spectral", "rms-to-rms" or "embedding"; by group.
        size: what the step's length is: "all", "own", "unit" or "distance".
        d0: first estimate of the distance.
        ns_steps: number of Newton-Schulz iterations for U V^T.
        exact: find U V^T by singular values instead, slower and exact.
        weight_decay: decoupled.

    State: ``p0``, one tensor like the parameter, for "distance"; else none. In each group the
    numbers ``length`` and ``d``.

    Reference: Bernstein & Newhouse, "Old Optimizer, New Norm: An Anthology", arXiv 2409.20325;
    Large et al., "Scalable Optimization in the Modular Norm", NeurIPS 2024, arXiv 2405.14813. The
    papers' formulas are followed; the authors' code of the second was compared for the norms. The
    second paper's recursion, which shares a step among layers by the masses and sensitivities of
    the modules that they are composed of, is left out: it needs to know how outputs flow from
    module to module, which parameters do not say. Shares are given by groups with ``lr_scale``.
    """

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, a model's embeddings apart where the norm is "auto".

        Raises:
            UsageError: as for the class.
        """
        known = set() if self._module is None else embeddings(self._module)
        own = param_group.get("rule", self.slug) == self.slug
        if own and param_group.get("norm", self.defaults["norm"]) == "auto":
            params = param_group["params"]
            entries = [params] if isinstance(params, Tensor) else list(params)
            rows = [x for x in entries if (x[1] if isinstance(x, tuple) else x) in known]
            others = [x for x in entries if (x[1] if isinstance(x, tuple) else x) not in known]
            if others or not rows:
                super().add_param_group({**param_group, "params": others})
            if rows:
                super().add_param_group({**param_group, "params": rows, "norm": "embedding"})
        else:
            super().add_param_group(param_group)
