"""The three ways to run a rule over a list of tensors; all give the same numbers."""

import operator
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from thalweg.engine import distributed
from thalweg.engine.kernel import STORAGE, Kernel, NoCompilerError
from thalweg.engine.rule import Numbers, Rule, State, structural_fields
from thalweg.engine.tensor_list import TensorList
from thalweg.engine.trace import Formula, UntraceableError, trace_measure, trace_update

Execution = Literal["auto", "loop", "foreach", "compiled"]
EXECUTIONS: tuple[Execution, ...] = ("auto", "loop", "foreach", "compiled")


class Turn(NamedTuple):
    """Tensors that step together: one rule, one step count, one set of numbers.

    Attributes:
        rule: the formula and its structural fields.
        p: the parameters (what is local to this process, if sharded and read by elements).
        g: their gradients.
        states: their state dictionaries.
        k: the numbers.
        maximize: whether gradients are negated first.
    """

    rule: Rule
    p: list[Tensor]
    g: list[Tensor]
    states: list[dict[str, Any]]
    k: Numbers
    maximize: bool

    def only(self, indices: Sequence[int]) -> "Turn":
        """Return the turn of some of the tensors."""
        return self._replace(
            p=[self.p[i] for i in indices],
            g=[self.g[i] for i in indices],
            states=[self.states[i] for i in indices],
        )

    def state_columns(self) -> dict[str, list[Tensor]]:
        """Return the state tensors by name, one for each parameter."""
        names = [name for name, x in self.states[0].items() if isinstance(x, Tensor)]
        return {name: [state[name] for state in self.states] for name in names}


def measure(turn: Turn, execution: Execution) -> dict[str, float]:
    """Return the rule's sums over all tensors of the turn that this process holds."""
    totals: dict[str, float] = {}
    for part, how in _dispatch(turn, execution):
        for name, value in _attempt(how.measure, part, _FOREACH.measure).items():
            totals[name] = totals.get(name, 0.0) + value
    return totals


def update(turn: Turn, execution: Execution) -> None:
    """Move parameters and state of all tensors of the turn on by one step."""
    for part, how in _dispatch(turn, execution):
        _attempt(how.update, part, _FOREACH.update)


def _dispatch(turn: Turn, execution: Execution) -> list[tuple[Turn, "_Way"]]:
    """Cut the turn into parts that one way of running takes whole."""
    if turn.rule.reads == "tensor" or execution == "loop":
        return [(turn, _LOOP)]
    compiles = execution != "foreach" and type(turn.rule) not in _uncompiled
    if compiles and _all_contiguous(turn):
        return [(turn, _COMPILED)]
    flat: list[int] = []
    # Torch's list kernels are fast only on lists of one device and dtype.
    rest: dict[Any, list[int]] = {}
    for i, p in enumerate(turn.p):
        if compiles and _is_flat(p, turn.g[i], turn.states[i]):
            flat.append(i)
        elif p.numel() > 0:
            rest.setdefault((p.device, p.dtype), []).append(i)
    parts = [(turn.only(indices), _FOREACH) for indices in rest.values()]
    return [(turn.only(flat), _COMPILED), *parts] if flat else parts


_uncompiled: set[type[Rule]] = set()


def _attempt(run: Callable[[Turn], Any], turn: Turn, otherwise: Callable[[Turn], Any]) -> Any:
    """Run; where no kernel can be built, which is found out before any work, run otherwise."""
    try:
        return run(turn)
    except (NoCompilerError, UntraceableError) as error:
        _uncompiled.add(type(turn.rule))
        if isinstance(error, NoCompilerError):
            _warn_once(f"{error}; rules run uncompiled, with the same results but slower")
        else:
            name = type(turn.rule).__name__
            _warn_once(f"{name} runs uncompiled, with the same results but slower: {error}")
        return otherwise(turn)


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=7)


# loop: the truth


def _signed(g: Any, maximize: bool) -> Any:
    return -g if maximize else g


def _loop_measure(turn: Turn) -> dict[str, float]:
    totals: dict[str, float] = {}
    for p, g, state in zip(turn.p, turn.g, turn.states, strict=True):
        sums = turn.rule.measure(_signed(g, turn.maximize), p, State.of(state), turn.k)
        for name, value in sums.items():
            totals[name] = totals.get(name, 0.0) + float(distributed.summed(value, p))
    return totals


def _loop_update(turn: Turn) -> None:
    step, decay = turn.k.step_size, turn.k.decay
    for p, g, state in zip(turn.p, turn.g, turn.states, strict=True):
        d = turn.rule.update(_signed(g, turn.maximize), p, State.of(state), turn.k)
        if decay != 0:
            p.mul_(1 - decay)
        p.add_(distributed.like(d, p), alpha=-step)


# foreach: many small tensors without a compiler


def _foreach_measure(turn: Turn) -> dict[str, float]:
    g, p, s = _lists(turn)
    return {name: float(x) for name, x in turn.rule.measure(g, p, s, turn.k).items()}


def _foreach_update(turn: Turn) -> None:
    g, p, s = _lists(turn)
    before = dict(vars(s))
    d: Any = turn.rule.update(g, p, s, turn.k)
    for name, after in vars(s).items():
        if after is not before[name]:
            for state, x in zip(turn.states, after.tensors, strict=True):
                state[name] = x
    if turn.k.decay != 0:
        torch._foreach_mul_(turn.p, 1 - turn.k.decay)
    torch._foreach_add_(turn.p, d.tensors, alpha=-turn.k.step_size)


def _lists(turn: Turn) -> tuple[Any, Any, State]:
    columns = {name: TensorList(column) for name, column in turn.state_columns().items()}
    return _signed(TensorList(turn.g), turn.maximize), TensorList(turn.p), State(**columns)


# compiled: one C loop over all of them

# Subclasses may keep their entries anywhere.
_PLAIN = {Tensor, torch.nn.Parameter}
_is_contiguous = torch._C.TensorBase.is_contiguous
_address = torch._C.TensorBase.data_ptr
_length = torch._C.TensorBase.numel
_dtype = operator.attrgetter("dtype")
_on_cpu = operator.attrgetter("is_cpu")


def _compiled_measure(turn: Turn) -> dict[str, float]:
    return _compiled(turn, trace_measure)


def _compiled_update(turn: Turn) -> None:
    _compiled(turn, trace_update)


def _compiled(turn: Turn, tracer: Callable[..., Formula]) -> dict[str, float]:
    state = turn.state_columns()
    columns = [turn.g, turn.p, *state.values()]
    kinds = [set(map(_dtype, column)) for column in columns]
    if any(len(kind) > 1 for kind in kinds):
        return _compiled_by_kind(turn, columns, tracer)
    numbers = tuple(vars(turn.k))
    dtypes = tuple(next(iter(kind)) for kind in kinds)
    kernel = _kernel(turn, tracer, tuple(state), numbers, dtypes)
    addresses = [list(map(_address, column)) for column in columns]
    return kernel(addresses, list(map(_length, turn.p)), list(vars(turn.k).values()))


def _compiled_by_kind(
    turn: Turn, columns: Sequence[Sequence[Tensor]], tracer: Callable[..., Formula]
) -> dict[str, float]:
    kinds: dict[Any, list[int]] = {}
    for i, row in enumerate(zip(*columns, strict=True)):
        kinds.setdefault(tuple(map(_dtype, row)), []).append(i)
    totals: dict[str, float] = {}
    for indices in kinds.values():
        for name, value in _compiled(turn.only(indices), tracer).items():
            totals[name] = totals.get(name, 0.0) + value
    return totals


_kernels: dict[Any, Kernel] = {}


def _kernel(
    turn: Turn,
    tracer: Callable[..., Formula],
    state: tuple[str, ...],
    numbers: tuple[str, ...],
    dtypes: tuple[torch.dtype, ...],
) -> Kernel:
    rule = turn.rule
    shape = tuple(getattr(rule, name) for name in structural_fields(type(rule)))
    key = (tracer, type(rule), shape, state, numbers, dtypes, turn.maximize)
    kernel = _kernels.get(key)
    if kernel is None:
        formula = tracer(rule, state, numbers, turn.maximize)
        kernel = _kernels[key] = Kernel(formula, ("g", "p", *state), numbers, dtypes)
    return kernel


def _all_contiguous(turn: Turn) -> bool:
    """Return whether one kernel can take the whole turn: the usual case, found out quickly."""
    columns = [turn.p, turn.g, *turn.state_columns().values()]
    return (
        _PLAIN.issuperset(map(type, turn.p))
        and all(map(_on_cpu, turn.p))
        and all(dtype in STORAGE for dtype in set(map(_dtype, turn.p)))
        and all(all(map(_is_contiguous, column)) for column in columns)
    )


def _is_flat(p: Tensor, g: Tensor, state: dict[str, Any]) -> bool:
    """Return whether gradient, parameter and state lie in memory alike, without gaps, on a CPU."""
    if type(p) not in _PLAIN or p.dtype not in STORAGE or not p.is_cpu or p.numel() == 0:
        return False
    others = [g, *[x for x in state.values() if isinstance(x, Tensor)]]
    if p.is_contiguous():
        return all(x.is_contiguous() for x in others)
    stride = p.stride()
    # A tensor with gaps gets other strides when it is allocated anew.
    return torch.empty_like(p, device="meta").stride() == stride and all(
        x.stride() == stride for x in others
    )


class _Way(NamedTuple):
    measure: Callable[[Turn], dict[str, float]]
    update: Callable[[Turn], Any]


_LOOP = _Way(_loop_measure, _loop_update)
_FOREACH = _Way(_foreach_measure, _foreach_update)
_COMPILED = _Way(_compiled_measure, _compiled_update)
