"""How each of torch's element-wise operations is written in C."""

import math
import operator
from collections.abc import Callable
from typing import Any


def as_element(pair: tuple[Any, str]) -> str:
    """Return an operand, given with its kind, as an expression of type ``T``."""
    value, kind = pair
    return f"((T){value})" if kind in ("number", "truth") else value


def literal(value: float) -> str:
    """Return a Python number as C."""
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "INFINITY" if value > 0 else "(-INFINITY)"
    return f"({value!r})"


def power(base: Any, exponent: tuple[Any, str]) -> str:
    """Return a power, cheaply where the exponent is a constant that allows it."""
    known = {literal(1.0): base, literal(2.0): f"({base} * {base})"}
    known[literal(3.0)] = f"({base} * {base} * {base})"
    negative = f"({base} + {base} == {base} ? INFINITY : NAN)"  # as powers of -inf and others
    known[literal(1 / 3)] = f"({base} < 0 ? {negative} : CBRT({base}))"
    known[literal(0.5)] = f"SQRT({base})"
    known[literal(-0.5)] = f"(1 / SQRT({base}))"
    known[literal(-1.0)] = f"(1 / {base})"
    return known.get(exponent[0], f"POW({base}, {as_element(exponent)})")


def _clamp(x: str, min: str | None = None, max: str | None = None) -> str:
    # Written so that NaN fails every comparison and stays.
    if min is not None:
        x = f"({x} < {min} ? {min} : {x})"
    if max is not None:
        x = f"({x} > {max} ? {max} : {x})"
    return x


def _scaled(sign: str) -> Callable[..., str]:
    def write(x: str, y: str, alpha: str | None = None) -> str:
        return f"({x} {sign} {y})" if alpha is None else f"({x} {sign} {alpha} * {y})"

    return write


def _fused(between: str) -> Callable[..., str]:
    def write(x: str, y: str, z: str, value: str = "1") -> str:
        return f"({x} + {value} * ({y} {between} {z}))"

    return write


def _lerp(x: str, y: str, weight: str) -> str:
    near, far = f"{x} + {weight} * ({y} - {x})", f"{y} - ({y} - {x}) * (1 - {weight})"
    return f"({weight} < (T)0.5 ? {near} : {far})"


ALIASES = {"truediv": "div", "subtract": "sub", "multiply": "mul", "divide": "div"}
TESTS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "eq": "==", "ne": "!="}
TRUTH: dict[str, Callable[..., str]] = {
    "and": lambda a, b: f"({a} & {b})",
    "or": lambda a, b: f"({a} | {b})",
    "invert": lambda a: f"(!{a})",
    "logical_not": lambda a: f"(!{a})",
    "isnan": lambda a: f"({a} != {a})",
}
NUMBERS: dict[str, Callable[..., str]] = {
    "add": lambda a, b: f"({a} + {b})",
    "sub": lambda a, b: f"({a} - {b})",
    "mul": lambda a, b: f"({a} * {b})",
    "div": lambda a, b: f"({a} / {b})",
    "pow": lambda a, b: f"pow({a}, {b})",
    "neg": lambda a: f"(-{a})",
}
ELEMENTS: dict[str, Callable[..., str]] = {
    "add": _scaled("+"),
    "sub": _scaled("-"),
    "rsub": lambda x, y: f"({y} - {x})",
    "mul": lambda x, y: f"({x} * {y})",
    "div": lambda x, y: f"({x} / {y})",
    "pow": operator.add,
    "neg": lambda x: f"(-{x})",
    "abs": lambda x: f"FABS({x})",
    "sqrt": lambda x: f"SQRT({x})",
    "rsqrt": lambda x: f"(1 / SQRT({x}))",
    "square": lambda x: f"({x} * {x})",
    "reciprocal": lambda x: f"(1 / {x})",
    "exp": lambda x: f"EXP({x})",
    "log": lambda x: f"LOG({x})",
    "tanh": lambda x: f"TANH({x})",
    "atan2": lambda x, y: f"ATAN2({x}, {y})",
    "sigmoid": lambda x: f"(1 / (1 + EXP(-{x})))",
    "sign": lambda x: f"((T)(({x} > 0) - ({x} < 0)))",
    "maximum": lambda x, y: f"(({x} != {x} || {x} > {y}) ? {x} : {y})",
    "minimum": lambda x, y: f"(({x} != {x} || {x} < {y}) ? {x} : {y})",
    "clamp": _clamp,
    "clamp_min": lambda x, min: _clamp(x, min),
    "clamp_max": lambda x, max: _clamp(x, None, max),
    "lerp": _lerp,
    "addcmul": _fused("*"),
    "addcdiv": _fused("/"),
    "where": lambda test, x, y: f"({test} ? {x} : {y})",
    "copy": lambda _, y: y,
    "clone": lambda x: x,
    "zero": lambda _: "((T)0)",
    "zeros_like": lambda _: "((T)0)",
    "ones_like": lambda _: "((T)1)",
    "fill": lambda _, y: y,
}
