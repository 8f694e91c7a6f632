"""A list of tensors that computes like one tensor, through torch's ``_foreach_`` kernels."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class TensorList:
    """Tensors of any shapes on which each operation runs for all of them in one call.

    Methods and functions that torch has a ``_foreach_`` form of use it; the others run tensor by
    tensor, so that every element-wise expression on a tensor works on a list too. Plain numbers
    mix with lists; lists mix with lists of the same length.
    """

    __slots__ = ("tensors",)

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = list(tensors)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__") or not hasattr(Tensor, name):
            raise AttributeError(name)
        return lambda *args, **kwargs: _call(name, self, *args, **kwargs)

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        return _call(getattr(function, "__name__", ""), *args, function=function, **(kwargs or {}))

    def sum(self) -> Tensor:
        """Return the sum over all entries of all tensors, 0-d, in float64."""
        if not self.tensors:
            return torch.zeros((), dtype=torch.float64)
        sums = [x.sum(dtype=torch.float64) for x in self.tensors]
        return torch.stack(sums).sum()


def _call(name: str, *args: Any, function: Any = None, **kwargs: Any) -> Any:
    fast = _FOREACH.get(name)
    if fast is not None and _fits(name, args, kwargs):
        plain = [arg.tensors if isinstance(arg, TensorList) else arg for arg in args]
        if not plain[0]:
            return args[0]
        if name in ("pow", "__pow__") or all(not isinstance(arg, TensorList) for arg in args[1:]):
            plain = [float(arg) if isinstance(arg, int) else arg for arg in plain]
        result = fast(*plain, **kwargs)
        return args[0] if name.endswith("_") else TensorList(result)
    return _one_by_one(name, function, args, kwargs)


def _fits(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether torch's form takes these arguments: a list first, then lists or numbers."""
    if not isinstance(args[0], TensorList):
        return False
    kinds = [isinstance(arg, TensorList) for arg in args[1:]]
    if name.rstrip("_") == "lerp":
        return len(kinds) == 2 and kinds[0]
    if name.rstrip("_") in ("addcmul", "addcdiv"):
        return kinds == [True, True]
    return not kwargs or (set(kwargs) == {"alpha"} and all(kinds))


def _one_by_one(name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    call = function if function is not None else _method(name)
    length = next(len(arg.tensors) for arg in args if isinstance(arg, TensorList))

    def at(value: Any, index: int) -> Any:
        return value.tensors[index] if isinstance(value, TensorList) else value

    results = [
        call(*(at(arg, i) for arg in args), **{key: at(arg, i) for key, arg in kwargs.items()})
        for i in range(length)
    ]
    in_place = name.endswith("_") and not name.endswith("__")
    return args[0] if in_place else TensorList(results)


def _method(name: str) -> Callable[..., Any]:
    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(x, name)(*args, **kwargs)

    return call


_HAVE_FOREACH = """
abs add addcdiv addcmul clamp_max clamp_min div exp lerp log maximum minimum mul neg pow
reciprocal rsqrt sqrt sub
"""


def _foreach_table() -> dict[str, Callable[..., Any]]:
    table: dict[str, Callable[..., Any]] = {}
    for name in _HAVE_FOREACH.split():
        for form in (name, name + "_"):
            function = getattr(torch, f"_foreach_{form}", None)
            if function is not None:
                table[form] = function
    return table


_FOREACH = _foreach_table()


def _binary(name: str, reflected: bool = False) -> Callable[[Any, Any], Any]:
    plain = getattr(operator, name)

    def forward(self: TensorList, other: Any) -> Any:
        return _call(_METHODS.get(name, name), self, other, function=plain)

    def backward(self: TensorList, other: Any) -> Any:
        if name == "sub":
            return _call("neg", self) + other
        if name == "truediv":
            return self.reciprocal() * other
        if name in ("add", "mul"):
            return forward(self, other)
        return _one_by_one(name, plain, (other, self), {})

    return backward if reflected else forward


_METHODS = {"truediv": "div"}

for _name in ("add", "sub", "mul", "truediv", "pow"):
    setattr(TensorList, f"__{_name}__", _binary(_name))
    setattr(TensorList, f"__r{_name}__", _binary(_name, reflected=True))
for _name in ("gt", "ge", "lt", "le", "eq", "ne", "and_", "or_"):
    setattr(TensorList, f"__{_name.rstrip('_')}__", _binary(_name))
TensorList.__neg__ = lambda self: _call("neg", self)  # type: ignore[attr-defined]
TensorList.__abs__ = lambda self: _call("abs", self)  # type: ignore[attr-defined]
TensorList.__invert__ = lambda self: _one_by_one("", operator.invert, (self,), {})  # type: ignore[attr-defined]
