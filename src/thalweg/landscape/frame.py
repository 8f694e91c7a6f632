"""Planes in weight space, and where points lie on them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.engine.closure import unflatten
from thalweg.landscape.curvature.eigenpairs import End, eigenpairs
from thalweg.landscape.curvature.operators import Hessian
from thalweg.landscape.directions import (
    Direction,
    Normalisation,
    check_direction,
    random_directions,
)
from thalweg.landscape.geometry import inner_product, parameter_names
from thalweg.landscape.grid import Mark
from thalweg.landscape.mix import Weights
from thalweg.landscape.objective import Objective
from thalweg.landscape.results import Saved

Kind = Literal["trajectory", "hessian", "none", "layer", "filter", "adaptive", "given"]


@dataclass(frozen=True)
class Frame(Saved):
    r"""A plane in weight space, :math:`w_0 + a d_1 + b d_2`.

    Attributes:
        kind: how the directions were found: "trajectory", "hessian", "given", or the
            normalisation of random ones.
        origin: :math:`w_0`, as of ``state_dict``.
        directions: :math:`d_1, d_2`, each one tensor for each trainable parameter.
        names: all names of each trainable parameter; tied ones have several.
        explained: of "trajectory", the shares of the trajectory's variance along each direction.
        eigenvalues: of "hessian", those of each direction.
        residuals: of "hessian", :math:`|H d - \lambda d|` of each.
    """

    kind: Kind
    origin: Weights
    directions: tuple[Direction, Direction]
    names: tuple[tuple[str, ...], ...]
    explained: tuple[float, float] | None = None
    eigenvalues: tuple[float, float] | None = None
    residuals: tuple[float, float] | None = None

    @property
    def norms(self) -> tuple[float, float]:
        """Return the directions' Euclidean norms."""
        one, other = (math.sqrt(inner_product(d, d)) for d in self.directions)
        return one, other

    @property
    def cosine(self) -> float:
        """Return the cosine of the angle between the directions."""
        return inner_product(*self.directions) / math.prod(self.norms)

    def project(self, weights: Weights, name: str = "") -> Mark:
        r"""Return where a point lies: the nearest point of the plane, and how far away that is.

        a and b minimise :math:`|w - w_0 - a d_1 - b d_2|`, which is the residual; parameters that
        are not trainable and buffers do not count. In float64, tensor by tensor.

        Raises:
            UsageError: weights that are not those of the plane's model, or not finite.
        """
        point = _tensors(weights, self.names, name)
        origin = _tensors(self.origin, self.names, "the origin")
        for aliases, w, start in zip(self.names, point, origin, strict=True):
            if w.shape != start.shape or not bool(w.isfinite().all()):
                raise UsageError(
                    f'"{aliases[0]}" of "{name}" is not finite or not of the shape '
                    f"{tuple(start.shape)}; pass finite weights of this very architecture"
                )

        def parts() -> Iterator[tuple[Tensor, Tensor]]:
            for w, start, *both in zip(point, origin, *self.directions, strict=True):
                d = torch.stack([one.double().flatten().to(start.device) for one in both])
                yield (w.to(start.device).double() - start.double()).flatten(), d

        gram = torch.zeros(2, 2, dtype=torch.float64)
        share = torch.zeros(2, dtype=torch.float64)
        for delta, d in parts():
            gram += (d @ d.mT).cpu()
            share += (d @ delta).cpu()
        a, b = torch.linalg.solve(gram, share).tolist()
        # The rest itself, not a difference of squares, which cancels near the plane.
        rest = [(delta - a * d[0] - b * d[1]).square().sum().item() for delta, d in parts()]
        return Mark(name, a, b, math.sqrt(math.fsum(rest)))


def random_frame(
    objective: Objective, normalisation: Normalisation = "filter", *, seed: int = 0
) -> Frame:
    """Return a plane of two random, orthogonal directions at the model's weights.

    See `random_directions` for the arguments and errors.
    """
    one, other = random_directions(objective, 2, normalisation, seed=seed)
    return _at_model(objective, normalisation, (one, other))


def given_frame(objective: Objective, directions: Sequence[Sequence[Tensor]]) -> Frame:
    """Return the plane of two directions, taken as they are, at the model's weights.

    Raises:
        UsageError: not two directions, directions that do not fit, or are parallel.
    """
    if len(directions) != 2:
        raise UsageError(f"expected 2 directions, found {len(directions)}")
    one, other = (check_direction(objective, direction) for direction in directions)
    return check_span(_at_model(objective, "given", (one, other)))


def hessian_frame(
    objective: Objective,
    which: End = "top",
    *,
    tolerance: float = 1e-3,
    max_products: int = 200,
    seed: int = 0,
) -> Frame:
    r"""Return the plane of two eigenvectors of the Hessian at the model's weights.

    The unit eigenvectors of the two outermost eigenvalues, so that near the origin the loss is
    :math:`L + \lambda_1 a^2 / 2 + \lambda_2 b^2 / 2` beside the gradient's slope.

    Args:
        objective: the loss.
        which: "top", "bottom" or "magnitude"; see `eigenpairs`.
        tolerance: of the eigenpairs' residuals, relative to the largest eigenvalue.
        max_products: Hessian-vector products to give up after.
        seed: of the start of Lanczos' method.

    Raises:
        UsageError: a single trainable entry, or the pairs did not converge.
    """
    hessian = Hessian(objective)
    if hessian.shape[0] < 2:
        raise UsageError("a plane needs two trainable entries at least, the model has one")
    found = eigenpairs(hessian, 2, which, tolerance=tolerance, max_products=max_products, seed=seed)
    if not found.converged:
        raise UsageError(
            f"the two eigenvectors did not converge in {found.products} products (residuals "
            f"{found.residuals.tolist()}); raise max_products or the tolerance"
        )
    params = objective.trainable()
    one, other = (
        [x.to(p).detach().clone() for x, p in zip(unflatten(v, params), params, strict=True)]
        for v in found.vectors.mT
    )
    frame = _at_model(objective, "hessian", (one, other))
    values, residuals = found.values.tolist(), found.residuals.tolist()
    return Frame(
        frame.kind,
        frame.origin,
        frame.directions,
        frame.names,
        eigenvalues=(values[0], values[1]),
        residuals=(residuals[0], residuals[1]),
    )


def check_span(frame: Frame) -> Frame:
    """Return the frame, or raise UsageError if its directions are parallel."""
    if 1 - abs(frame.cosine) < 1e-6:
        raise UsageError("the two directions are parallel and span no plane")
    return frame


def trainable_names(model: nn.Module) -> tuple[tuple[str, ...], ...]:
    """Return all names of each parameter that requires a gradient, in the model's order."""
    module: nn.Module = getattr(model, "_orig_mod", model)
    moved = dict(module.named_parameters())
    names = parameter_names(module)
    return tuple(tuple(names[name]) for name, p in moved.items() if p.requires_grad)


def _at_model(objective: Objective, kind: Kind, directions: tuple[Direction, Direction]) -> Frame:
    module = objective.module
    origin = {n: x.detach().clone() for n, x in module.state_dict().items() if _is_tensor(x)}
    return Frame(kind, origin, directions, trainable_names(module))


def _is_tensor(x: object) -> bool:
    return isinstance(x, Tensor)


def _tensors(weights: Weights, names: Sequence[Sequence[str]], point: str) -> list[Tensor]:
    found = []
    for aliases in names:
        value = next((weights[name] for name in aliases if name in weights), None)
        if value is None:
            raise UsageError(f'the weights of "{point}" lack "{aliases[0]}"')
        found.append(value.detach())
    return found
