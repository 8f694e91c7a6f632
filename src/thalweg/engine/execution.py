"""The three ways to run a rule over a list of tensors; all give the same numbers."""

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


class Entry(NamedTuple):
    """One tensor's turn: parameter, gradient, state (what is local to this process, if sharded)."""

    p: Tensor
    g: Tensor
    state: dict[str, Any]


class Turn(NamedTuple):
    """Tensors that step together: one rule, one step count, one set of numbers."""

    rule: Rule
    entries: Sequence[Entry]
    k: Numbers
    maximize: bool


def measure(turn: Turn, execution: Execution) -> dict[str, float]:
    """Return the rule's sums over all entries of the turn that this process holds."""
    totals: dict[str, float] = {}
    for part, how in _dispatch(turn, execution):
        for name, value in _attempt(how.measure, part, _FOREACH.measure).items():
            totals[name] = totals.get(name, 0.0) + value
    return totals


def update(turn: Turn, execution: Execution) -> None:
    """Move parameters and state of all entries of the turn on by one step."""
    for part, how in _dispatch(turn, execution):
        _attempt(how.update, part, _FOREACH.update)


def _dispatch(turn: Turn, execution: Execution) -> list[tuple[Turn, "_Way"]]:
    """Cut the turn into parts that one way of running takes whole."""
    if turn.rule.reads == "tensor" or execution == "loop":
        return [(turn, _LOOP)]
    compiles = execution != "foreach" and type(turn.rule) not in _uncompiled
    flat: list[Entry] = []
    rest: dict[Any, list[Entry]] = {}
    for entry in turn.entries:
        if compiles and _is_flat(entry):
            flat.append(entry)
        elif entry.p.numel() > 0:
            # Torch's list kernels are fast only on lists of one device and dtype.
            rest.setdefault((entry.p.device, entry.p.dtype), []).append(entry)
    parts = [(turn._replace(entries=entries), _FOREACH) for entries in rest.values()]
    return [(turn._replace(entries=flat), _COMPILED), *parts] if flat else parts


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
    for p, g, state in turn.entries:
        sums = turn.rule.measure(_signed(g, turn.maximize), p, State.of(state), turn.k)
        for name, value in sums.items():
            totals[name] = totals.get(name, 0.0) + float(distributed.summed(value, p))
    return totals


def _loop_update(turn: Turn) -> None:
    step, decay = turn.k.step_size, turn.k.decay
    for p, g, state in turn.entries:
        d = turn.rule.update(_signed(g, turn.maximize), p, State.of(state), turn.k)
        if decay != 0:
            p.mul_(1 - decay)
        p.add_(distributed.like(d, p), alpha=-step)


# foreach: many small tensors without a compiler


def _lists(turn: Turn) -> tuple[Any, Any, State, list[str]]:
    names = [name for name, x in turn.entries[0].state.items() if isinstance(x, Tensor)]
    g = TensorList([entry.g for entry in turn.entries])
    p = TensorList([entry.p for entry in turn.entries])
    columns = {name: TensorList([entry.state[name] for entry in turn.entries]) for name in names}
    return _signed(g, turn.maximize), p, State(**columns), names


def _foreach_measure(turn: Turn) -> dict[str, float]:
    g, p, s, _ = _lists(turn)
    return {name: float(x) for name, x in turn.rule.measure(g, p, s, turn.k).items()}


def _foreach_update(turn: Turn) -> None:
    g, p, s, names = _lists(turn)
    before = dict(vars(s))
    d: Any = turn.rule.update(g, p, s, turn.k)
    for name in names:
        after = vars(s)[name]
        if after is not before[name]:
            for entry, x in zip(turn.entries, after.tensors, strict=True):
                entry.state[name] = x
    if turn.k.decay != 0:
        torch._foreach_mul_(p.tensors, 1 - turn.k.decay)
    torch._foreach_add_(p.tensors, d.tensors, alpha=-turn.k.step_size)


# compiled: one C loop over all of them


def _compiled_measure(turn: Turn) -> dict[str, float]:
    return _compiled(turn, trace_measure)


def _compiled_update(turn: Turn) -> None:
    _compiled(turn, trace_update)


def _compiled(turn: Turn, tracer: Callable[..., Formula]) -> dict[str, float]:
    names = [name for name, x in turn.entries[0].state.items() if isinstance(x, Tensor)]
    batches: dict[tuple[Any, ...], tuple[list[int], list[int]]] = {}
    for p, g, state in turn.entries:
        tensors = [g, p, *[state[name] for name in names]]
        key = tuple([x.dtype for x in tensors])
        batch = batches.get(key)
        if batch is None:
            batch = batches[key] = ([], [])
        batch[0].extend([x.data_ptr() for x in tensors])
        batch[1].append(p.numel())
    numbers = tuple(vars(turn.k))
    values = list(vars(turn.k).values())
    totals: dict[str, float] = {}
    for dtypes, (addresses, sizes) in batches.items():
        kernel = _kernel(turn, tracer, tuple(names), numbers, dtypes)
        for name, value in kernel(addresses, sizes, values).items():
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


def _is_flat(entry: Entry) -> bool:
    """Return whether gradient, parameter and state lie in memory alike, without gaps, on a CPU."""
    p, g, state = entry
    if p.dtype not in STORAGE or p.device.type != "cpu" or p.numel() == 0:
        return False
    others = [g, *[x for x in state.values() if isinstance(x, Tensor)]]
    if p.is_contiguous():
        return all([x.is_contiguous() for x in others])
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
