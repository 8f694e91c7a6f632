"""A run of a model in which every axis of every tensor carries the label of its units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from thalweg.landscape.restored import restored
from thalweg.merge.permutations.labels import Label, Unit, fix, fresh
from thalweg.merge.permutations.structure import INPUT, OUTPUT


@dataclass
class Value:
    """What is known of one tensor.

    Attributes:
        labels: of its axes.
        origin: the tensor of the state dict that it is another view of, if it is one.
    """

    labels: tuple[Label, ...]
    origin: str | None = None


@dataclass
class Trace:
    """What a run showed.

    Attributes:
        state: labels of the tensors of the state dict that were used, by their first names.
        names: all names of each of these.
        together: sets of labels that stood beside one another in a tensor, or of the axes that
            two tensors of a product have in common.
        read: by unit and tensor of the state dict: whether it was summed over there.
    """

    state: dict[str, tuple[Label, ...]] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    together: list[tuple[Label, ...]] = field(default_factory=list)
    read: list[tuple[Label, str]] = field(default_factory=list)


class Labelled(TorchDispatchMode):
    """Follows labels through every operation that runs while it is active."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.trace = Trace()
        self._state: dict[int, str] = {}
        self._values: dict[int, Value] = {}
        self.stacked: dict[int, list[Label]] = {}  # of stacks that no operation has used whole
        self._kept: list[Tensor] = []  # an address is only good while its tensor lives
        for name, x in state.items():
            first = self._state.setdefault(id(x), name)
            self.trace.names.setdefault(first, []).append(name)
            self._kept.append(x)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        from thalweg.merge.permutations.operations import follow

        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        outputs = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        # Of what no data and no weight went into, the values are the same in every run.
        if any(id(x) in self._values or id(x) in self._state for x in given):
            follow(self, func, args, kwargs, outputs)
            for x in outputs:
                self.trace.together.append(self.value(x).labels)
        return result

    def set(self, x: Tensor, labels: Sequence[Label], origin: str | None = None) -> None:
        """Give a tensor its labels."""
        if len(labels) != x.ndim:
            raise AssertionError(f"{len(labels)} labels for {x.ndim} axes")
        self._kept.append(x)
        self._values[id(x)] = Value(tuple(labels), origin)

    def value(self, x: Tensor) -> Value:
        """Return what is known of a tensor; of a new one, what its values show."""
        found = self._values.get(id(x))
        if found is not None:
            return found
        name = self._state.get(id(x))
        if name is not None:
            self.set(x, [fresh(size) for size in x.shape], name)
            self.trace.state[name] = self._values[id(x)].labels
            self.trace.together.append(self._values[id(x)].labels)
        else:
            self.set(x, [_constant(x, axis) for axis in range(x.ndim)])
        return self._values[id(x)]

    def labels(self, x: Tensor) -> tuple[Label, ...]:
        """Return the labels of a tensor's axes."""
        return self.value(x).labels

    def known(self, x: Tensor) -> bool:
        """Return whether a tensor has labels already."""
        return id(x) in self._values

    def aligned(self, labels: Sequence[Label]) -> None:
        """Note that these axes are the ones that tensors have in common in an operation."""
        self.trace.together.append(tuple(labels))

    def reads(self, x: Tensor, label: Label) -> None:
        """Note that a label of a tensor is summed over."""
        origin = self.value(x).origin
        if origin is not None:
            self.trace.read.append((label, origin))


def _constant(x: Tensor, axis: int) -> Label:
    """Return the label of an axis of a constant: it breaks a symmetry unless all are equal."""
    if x.shape[axis] <= 1:
        return () if x.shape[axis] == 1 else (Unit(0, fixed="it is empty"),)
    same = x.numel() == 0 or bool((x == x.narrow(axis, 0, 1)).all())
    return fresh(x.shape[axis], None if same else "a constant differs along it")


@contextmanager
def plain(model: nn.Module) -> Iterator[None]:
    """Run a model in evaluation mode, with operations that have names of their own.

    The model is put back afterwards.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    mkldnn = torch._C._get_mkldnn_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        torch._C._set_mkldnn_enabled(False)  # else recurrent layers are one operation
        with restored(model), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            model.eval()
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch._C._set_mkldnn_enabled(mkldnn)


def run(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Trace:
    """Return what a run of a model on example inputs shows."""
    state = {
        name: x
        for name, x in model.state_dict(keep_vars=True).items()
        if isinstance(x, Tensor) and x.ndim
    }
    mode = Labelled(state)
    with plain(model):
        for x in tree_leaves((args, dict(kwargs))):
            if isinstance(x, Tensor):
                mode.set(x, [fresh(size, INPUT) for size in x.shape])
        with mode:
            result = model(*args, **kwargs)
    for x in tree_leaves(plain_outputs(result)):
        if isinstance(x, Tensor):
            for label in mode.labels(x):
                fix(label, OUTPUT)
    return mode.trace


def plain_outputs(result: Any) -> Any:
    """Return outputs as containers that torch knows; those of other classes by their fields."""
    if isinstance(result, Mapping):
        return list(result.values())
    if hasattr(result, "__dict__") and not isinstance(result, Tensor):
        return list(vars(result).values())
    return result
