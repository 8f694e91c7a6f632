"""The few manifolds that rules on manifolds need, with geoopt's names for what they do.

Anything with these methods serves: parameters of geoopt bring their own manifold.
"""

from typing import Any, Protocol

import torch
from torch import Tensor


class Manifold(Protocol):
    """What a rule asks of a manifold; x and y are points, u and v tangent vectors at x."""

    def projx(self, x: Tensor) -> Tensor:
        """Return the point of the manifold nearest to ``x``."""
        ...

    def egrad2rgrad(self, x: Tensor, u: Tensor) -> Tensor:
        """Return the Riemannian gradient of a Euclidean one."""
        ...

    def component_inner(self, x: Tensor, u: Tensor) -> Tensor:
        """Return ``<u, u>_x`` of each component, of a shape that broadcasts with x."""
        ...

    def retr_transp(self, x: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return a retraction of x along u, and v transported there."""
        ...

    def expmap_transp(self, x: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the exponential map of u at x, and v transported there."""
        ...


class Euclidean:
    """Flat space; every entry is a component."""

    def projx(self, x: Tensor) -> Tensor:
        """Return x."""
        return x

    def egrad2rgrad(self, x: Tensor, u: Tensor) -> Tensor:
        """Return u."""
        del x
        return u

    def component_inner(self, x: Tensor, u: Tensor) -> Tensor:
        """Return the squares."""
        del x
        return u * u

    def retr_transp(self, x: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return x + u and v."""
        return x + u, v

    expmap_transp = retr_transp


class Sphere:
    """Unit vectors along the last axis; each is a component."""

    def projx(self, x: Tensor) -> Tensor:
        """Return x over its norm."""
        return x / x.norm(dim=-1, keepdim=True)

    def egrad2rgrad(self, x: Tensor, u: Tensor) -> Tensor:
        """Return u without its part along x."""
        return u - (x * u).sum(-1, keepdim=True) * x

    def component_inner(self, x: Tensor, u: Tensor) -> Tensor:
        """Return the squared norms."""
        del x
        return (u * u).sum(-1, keepdim=True)

    def retr_transp(self, x: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return (x + u) / |x + u|, and v projected there."""
        y = self.projx(x + u)
        return y, self.egrad2rgrad(y, v)

    def expmap_transp(self, x: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the point at the end of the great circle's arc, and v carried along it."""
        angle = u.norm(dim=-1, keepdim=True)
        unit = u / torch.where(angle == 0, 1, angle)
        y = x * angle.cos() + unit * angle.sin()
        along = (unit * v).sum(-1, keepdim=True)
        turned = unit * (angle.cos() - 1) - x * angle.sin()
        return self.projx(y), v + along * turned


class PoincareBall:
    """The ball of curvature -1: vectors along the last axis with norm below 1."""

    def projx(self, x: Tensor) -> Tensor:
        """Return x, drawn back inside where it is too near to the boundary."""
        norm = x.norm(dim=-1, keepdim=True)
        largest = 1 - 10 * torch.finfo(x.dtype).eps ** 0.5
        return torch.where(norm > largest, x * (largest / norm), x)

    def egrad2rgrad(self, x: Tensor, u: Tensor) -> Tensor:
        """Return u over the square of the conformal factor."""
        return u / self._factor(x).square()

    def component_inner(self, x: Tensor, u: Tensor) -> Tensor:
        """Return the squared norms in the metric at x."""
        return self._factor(x).square() * (u * u).sum(-1, keepdim=True)

    def retr_transp(self, x: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return x + u drawn inside, and v transported there."""
        y = self.projx(x + u)
        return y, self._transported(x, y, v)

    def expmap_transp(self, x: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the end of the geodesic along u, and v carried along it."""
        norm = u.norm(dim=-1, keepdim=True)
        unit = u / torch.where(norm == 0, 1, norm)
        y = self.projx(self._added(x, (self._factor(x) * norm / 2).tanh() * unit))
        return y, self._transported(x, y, v)

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the length of the geodesic between x and y."""
        return 2 * self._added(-x, y).norm(dim=-1).clamp(max=1 - 1e-12).atanh()

    def _factor(self, x: Tensor) -> Tensor:
        return 2 / (1 - (x * x).sum(-1, keepdim=True))

    def _added(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the Moebius sum."""
        xy, xx, yy = ((a * b).sum(-1, keepdim=True) for a, b in ((x, y), (x, x), (y, y)))
        return ((1 + 2 * xy + yy) * x + (1 - xx) * y) / (1 + 2 * xy + xx * yy)

    def _transported(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Return v turned by the gyration of y and -x and scaled by the factors' ratio."""
        a, b = y, -x
        ab, av, bv, aa, bb = (
            (p * q).sum(-1, keepdim=True) for p, q in ((a, b), (a, v), (b, v), (a, a), (b, b))
        )
        of_a = -av * bb + bv + 2 * ab * bv
        of_b = -bv * aa - av
        turned = v + 2 * (of_a * a + of_b * b) / (1 + 2 * ab + aa * bb)
        return turned * self._factor(x) / self._factor(y)


class Stiefel:
    """Matrices with orthonormal columns, in the last two axes; each matrix is a component."""

    def projx(self, x: Tensor) -> Tensor:
        """Return the polar factor."""
        u, _, v = torch.linalg.svd(x, full_matrices=False)
        return u @ v

    def egrad2rgrad(self, x: Tensor, u: Tensor) -> Tensor:
        """Return u without what would break orthonormality."""
        product = x.mT @ u
        return u - x @ (product + product.mT) / 2

    def component_inner(self, x: Tensor, u: Tensor) -> Tensor:
        """Return the squared Frobenius norms."""
        del x
        return (u * u).sum((-2, -1), keepdim=True)

    def retr_transp(self, x: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the Q of x + u with positive diagonal in R, and v projected there."""
        q, r = torch.linalg.qr(x + u)
        diagonal = r.diagonal(dim1=-2, dim2=-1)
        y = q * torch.ones_like(diagonal).copysign(diagonal).unsqueeze(-2)
        return y, self.egrad2rgrad(y, v)

    def expmap_transp(self, x: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the end of the geodesic of the Euclidean metric, and v projected there."""
        columns = x.size(-1)
        a, s = x.mT @ u, u.mT @ u
        one = torch.eye(columns, dtype=x.dtype, device=x.device).expand_as(a)
        block = torch.cat([torch.cat([a, -s], -1), torch.cat([one, a], -1)], -2)
        moved = torch.cat([x, u], -1) @ torch.matrix_exp(block)[..., :columns]
        y = self.projx(moved @ torch.matrix_exp(-a))
        return y, self.egrad2rgrad(y, v)


_KNOWN: dict[str, Manifold] = {
    "euclidean": Euclidean(),
    "sphere": Sphere(),
    "poincare": PoincareBall(),
    "stiefel": Stiefel(),
}


def manifold_of(p: Tensor, name: str) -> Manifold:
    """Return the parameter's own manifold, as geoopt's have one, or that of a name."""
    own: Any = getattr(p, "manifold", None)
    return _KNOWN[name] if own is None else own


def fits(p: Tensor, name: str) -> bool:
    """Return whether a tensor of this shape can lie on the manifold of a name."""
    if name == "stiefel":
        return p.ndim >= 2 and p.shape[-2] >= p.shape[-1]
    return name == "euclidean" or p.ndim >= 1
