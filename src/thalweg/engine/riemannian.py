"""What rules on manifolds share."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from thalweg.engine.distributed import gathered
from thalweg.engine.manifold import Manifold, fits, manifold_of
from thalweg.engine.rule import Numbers, Rule, State


@dataclass(frozen=True)
class RiemannianRule(Rule):
    """Base of rules that move along a manifold: a subclass says which tangent vector they take."""

    reads: ClassVar[Literal["element", "tensor"]] = "tensor"

    manifold: Literal["euclidean", "sphere", "poincare", "stiefel"] = "euclidean"
    exact: bool = False

    def takes(self, p: Tensor) -> bool:
        """Return whether the tensor's shape fits the manifold."""
        return hasattr(p, "manifold") or fits(p, self.manifold)

    def component(self, p: Tensor) -> Tensor:
        """Return zeros in the shape of the squared norms of components."""
        whole = gathered(p)
        return torch.zeros_like(self.on(p).component_inner(whole, whole))

    def on(self, p: Tensor) -> Manifold:
        """Return the parameter's manifold."""
        return manifold_of(p, self.manifold)

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return 1 and 0: `update` returns the whole movement."""
        return 1.0, 0.0

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the movement along the manifold, and carry tangent state with it."""
        manifold = self.on(p)
        before = gathered(p)
        x = manifold.projx(before)
        r = manifold.egrad2rgrad(x, gathered(g) + x * k.weight_decay)
        u, carried = self.tangent(manifold, x, r, s, k)
        walk = manifold.expmap_transp if self.exact else manifold.retr_transp
        y, after = walk(x, u * -k.lr, x if carried is None else carried)
        if carried is not None:
            carried.copy_(after)
        return before - y

    def tangent(
        self, manifold: Manifold, x: Tensor, r: Tensor, s: State, k: Numbers
    ) -> tuple[Tensor, Tensor | None]:
        """Return the direction at x for the gradient r, and the state to carry along, if any."""
        raise NotImplementedError(f"{type(self).__name__} has no tangent")
