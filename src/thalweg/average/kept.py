"""Copies of a model's tensors: found by name, kept on a device and in a precision, blended."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from thalweg.average.bfloat16 import blend_rounded
from thalweg.core.errors import UsageError
from thalweg.engine.distributed import is_distributed, like, local

Point = dict[str, Tensor]


class Followed:
    """A model's parameters, and its buffers if asked, by name.

    They are looked up once; later only whether each is still in its place.

    Args:
        model: whose tensors they are.
        buffers: whether buffers are among them.

    Raises:
        UsageError: a parameter has no shape yet.
    """

    def __init__(self, model: nn.Module, buffers: bool) -> None:
        self.model = model
        self.buffers = buffers
        self._places: list[tuple[Mapping[str, Tensor | None], str, Tensor]] = []
        self._find()
        for name, x in zip(self.names, self.tensors, strict=True):
            if is_lazy(x):
                raise UsageError(
                    f'"{name}" has no shape yet, so it cannot be averaged; run one batch through '
                    "the model first"
                )

    def now(self) -> list[Tensor]:
        """Return the tensors, in the order of `names`.

        Raises:
            UsageError: the model's tensors are no longer those it had, by name or shape.
        """
        if not all(place.get(key) is x for place, key, x in self._places):
            before = dict(zip(self.names, self.tensors, strict=True))
            self._find()
            check_match("the model", dict(zip(self.names, self.tensors, strict=True)), before)
        return self.tensors

    def _find(self) -> None:
        self._places = []
        self.names: list[str] = []
        self.tensors: list[Tensor] = []
        seen: set[int] = set()
        kinds = ("_parameters", "_buffers") if self.buffers else ("_parameters",)
        for kind in kinds:
            for prefix, module in self.model.named_modules():
                for key, x in getattr(module, kind).items():
                    if x is None or id(x) in seen:
                        continue
                    seen.add(id(x))
                    self._places.append((getattr(module, kind), key, x))
                    self.names.append(plain(f"{prefix}.{key}" if prefix else key))
                    self.tensors.append(x)


class Keeping:
    """Where and in which precision copies are kept.

    Args:
        device: of the copies; of each tensor itself if None.
        precision: of floating-point copies; of each tensor itself, or float32 for 16 bits, if None.
    """

    def __init__(self, device: str | None, precision: str | None) -> None:
        self._device = None if device is None else torch.device(device)
        self._dtype: torch.dtype | None = None if precision is None else getattr(torch, precision)

    def copy(self, x: Tensor, like_: Tensor | None = None) -> Tensor:
        """Return a copy to keep of a tensor, laid out and sharded as ``like_`` is."""
        like_ = x if like_ is None else like_
        x = like(x.detach(), like_.detach())
        kept = x.to(self._device or like_.device, self._kept_as(like_), copy=True)
        if kept.stride() != like_.stride() and not is_distributed(kept):
            kept = torch.empty_like(like_, dtype=kept.dtype, device=kept.device).copy_(kept)
        return kept

    def _kept_as(self, x: Tensor) -> torch.dtype:
        if not x.is_floating_point():
            return x.dtype
        if self._dtype is not None:
            return self._dtype
        return torch.promote_types(x.dtype, torch.float32)


@torch.no_grad()
def blend(kept: Sequence[Tensor], points: Sequence[Tensor], weight: float, salt: int) -> None:
    """Move kept tensors towards others: ``kept + weight (point - kept)``.

    What is no floating-point or complex tensor is copied; so is everything at weight 1. Kept
    bfloat16 is computed in float32 and rounded stochastically.

    Args:
        kept: changed in place.
        points: of the same shapes.
        weight: in [0, 1].
        salt: tells the random bits of one call from those of another.
    """
    averages: list[Tensor] = []
    targets: list[Tensor] = []
    coarse: list[Tensor] = []
    coarse_targets: list[Tensor] = []
    for average, point in zip(kept, points, strict=True):
        average, point = local(average), local(point)
        if weight == 1 or not (average.is_floating_point() or average.is_complex()):
            average.copy_(point)
        elif average.dtype == torch.bfloat16:
            coarse.append(average)
            coarse_targets.append(point.to(average.device))
        else:
            averages.append(average)
            fits = point.dtype == average.dtype and point.device == average.device
            targets.append(point if fits else point.to(average.device, average.dtype))
    if averages:
        torch._foreach_lerp_(averages, targets, weight)
    if coarse:
        blend_rounded(coarse, coarse_targets, weight, salt)


@torch.no_grad()
def put(point: Point, tensors: Mapping[str, Tensor]) -> None:
    """Write a point into tensors of the same names."""
    for name, x in tensors.items():
        local(x).copy_(local(point[name]))


def mean_of(points: Sequence[Mapping[str, Tensor]], shares: Sequence[float] | None = None) -> Point:
    """Return the mean of points, summed in float32 or more; of integers the last point's.

    Args:
        points: one at least, with the last one's names and shapes; tensor by tensor is read, so
            that they may come from files.
        shares: of the points, summing to one, possibly negative; equal unless given.
    """
    mean: Point = {}
    for name, last in points[-1].items():
        if not (last.is_floating_point() or last.is_complex()):
            mean[name] = last
            continue
        total = torch.zeros_like(last, dtype=torch.promote_types(last.dtype, torch.float32))
        for point, share in zip(points, shares or [1.0] * len(points), strict=True):
            total.add_(like(point[name], total).to(total), alpha=share)
        mean[name] = total if shares else total.div_(len(points))
    return mean


def check_not_sharded(what: str, tensors: Mapping[str, Tensor]) -> None:
    """Raise a `UsageError` if any of the tensors of what works on whole ones alone is a DTensor."""
    for name, x in tensors.items():
        if is_distributed(x):
            raise UsageError(
                f'{what} takes whole weights, and "{name}" is spread over processes; use DDP'
            )


def is_frozen(x: Tensor) -> bool:
    """Return whether a tensor is a parameter that is not trained."""
    return isinstance(x, nn.Parameter) and not x.requires_grad


def tensors_of(model: nn.Module, buffers: bool) -> dict[str, Tensor]:
    """Return a model's parameters, and buffers if asked, by name."""
    found: dict[str, Tensor] = {plain(name): p for name, p in model.named_parameters()}
    if buffers:
        found.update({plain(name): x for name, x in model.named_buffers()})
    return found


def plain(name: str) -> str:
    """Return a name without what torch.compile adds: an average outlives the choice to compile."""
    return name.replace("_orig_mod.", "")


def check_match(this: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise a `UsageError` unless names and shapes are those of the model of an average."""
    that = "the average" if this == "the model" else "the model"
    if found.keys() != expected.keys():
        missing = [name for name in expected if name not in found]
        extra = [name for name in found if name not in expected]
        raise UsageError(
            f"{this} does not match {that}: "
            + " and ".join(
                f"{verb} {_some(names)}"
                for verb, names in (("it lacks", missing), ("it has besides", extra))
                if names
            )
            + "; use the model that the average was made for"
        )
    for name, x in expected.items():
        if found[name].shape != x.shape:
            raise UsageError(
                f'{this} does not match {that}: "{name}" has shape {tuple(found[name].shape)} '
                f"where {tuple(x.shape)} is expected"
            )


def _some(names: list[str]) -> str:
    listed = ", ".join(f'"{name}"' for name in names[:3])
    return listed + (f" and {len(names) - 3} more" if len(names) > 3 else "")
