"""The three ways to run a rule over a list of tensors; all give the same numbers."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from thalweg.engine import distributed, storage
from thalweg.engine.kernel import ROUNDING, STORAGE, Kernel, NoCompilerError
from thalweg.engine.modifier import (
    Modifiers,
    Pass,
    decayed,
    direction_passes,
    numbers_from,
    redirected,
    transformed,
)
from thalweg.engine.numeric import wide
from thalweg.engine.places import PLAIN, PlacesCache, dtype_of, places, state_names
from thalweg.engine.rule import Numbers, Rule, State, measures_each, structural_fields
from thalweg.engine.tensor_list import TensorList
from thalweg.engine.trace import UntraceableError, trace

Execution = Literal["auto", "loop", "foreach", "compiled"]
EXECUTIONS: tuple[Execution, ...] = ("auto", "loop", "foreach", "compiled")


class Turn(NamedTuple):
    """Tensors that step together: one rule, one step count, one set of numbers.

    Attributes:
        rule: the formula and its structural fields.
        modifiers: what is around it.
        whole: the parameters as the user has them.
        p: the parameters (what is local to this process, if sharded and read by elements).
        g: their gradients.
        states: their state dictionaries.
        k: the numbers.
        each: by tensor, the numbers that are its own.
        maximize: whether gradients are negated first.
        bits: in which state is stored, if not in the parameter's own dtype.
        cache: where the tensors lie, kept from step to step.
    """

    rule: Rule
    modifiers: Modifiers
    whole: list[Tensor]
    p: list[Tensor]
    g: list[Tensor]
    states: list[dict[str, Any]]
    k: Numbers
    each: list[dict[str, float]]
    maximize: bool
    bits: storage.Bits | None
    cache: PlacesCache

    def only(self, indices: Sequence[int]) -> "Turn":
        """Return the turn of some of the tensors."""
        if len(indices) == len(self.p):
            return self
        return self._replace(
            cache=PlacesCache(),
            whole=[self.whole[i] for i in indices],
            p=[self.p[i] for i in indices],
            g=[self.g[i] for i in indices],
            states=[self.states[i] for i in indices],
            each=[self.each[i] for i in indices],
        )


Sums = tuple[list[str], Tensor]


def measure(turn: Turn, sums_of: Pass, execution: Execution) -> Sums:
    """Return the names of a pass's sums, and by tensor (rows) the sums over all processes."""
    found: list[tuple[Sequence[int], Sums]] = []
    for indices, how in _dispatch(turn, execution):
        part = turn.only(indices)
        names, rows = _attempt(how.measure, part, _LOOP.measure, sums_of)
        if turn.rule.reads == "element":
            rows = distributed.summed(rows.flatten(), part.whole[0]).reshape(rows.shape)
        found.append((indices, (names, rows)))
    return _joined(len(turn.p), found)


def _joined(count: int, parts: Sequence[tuple[Sequence[int], Sums]]) -> Sums:
    """Return the sums of all tensors; those in no part, which are empty, have sums of zero."""
    if len(parts) == 1 and len(parts[0][0]) == count:
        return parts[0][1]
    names = parts[0][1][0] if parts else []
    every = torch.zeros(count, len(names), dtype=torch.float64)
    for indices, (_, rows) in parts:
        every[list(indices)] = rows
    return names, every


def by_tensor(sums: Sums) -> list[dict[str, float]]:
    """Return the sums of each tensor by name."""
    names, rows = sums
    return [dict(zip(names, row, strict=True)) for row in rows.tolist()]


def update(turn: Turn, execution: Execution) -> None:
    """Move parameters and state of all tensors of the turn on by one step."""
    for indices, how in _dispatch(turn, execution):
        _attempt(how.update, turn.only(indices), how.otherwise or _LOOP.update)


def _dispatch(turn: Turn, execution: Execution) -> list[tuple[Sequence[int], "_Way"]]:
    """Cut the turn into parts that one way of running takes whole."""
    everything = range(len(turn.p))
    if turn.rule.reads == "tensor" or execution == "loop":
        return [(everything, _LOOP)]
    # Torch's list kernels take one number for all tensors.
    listed = _LOOP if turn.modifiers or measures_each(type(turn.rule)) else _FOREACH
    compiles = execution != "foreach" and type(turn.rule) not in _uncompiled
    if compiles and turn.cache.look(turn.g, turn.p, turn.states):
        return [(everything, _COMPILED._replace(otherwise=listed.update))]
    flat: list[int] = []
    # Torch's list kernels are fast only on lists of one device and dtype.
    rest: dict[Any, list[int]] = {}
    for i, p in enumerate(turn.p):
        if compiles and _is_flat(p, turn.g[i], turn.states[i]):
            flat.append(i)
        elif p.numel() > 0:
            rest.setdefault((p.device, p.dtype), []).append(i)
    parts: list[tuple[Sequence[int], _Way]] = [(indices, listed) for indices in rest.values()]
    if flat:
        parts.insert(0, (flat, _COMPILED._replace(otherwise=listed.update)))
    return parts


_uncompiled: set[type[Rule]] = set()


def _attempt(
    run: Callable[..., Any], turn: Turn, otherwise: Callable[..., Any], *arguments: Any
) -> Any:
    """Run; where no kernel can be built, which is found out before any work, run otherwise."""
    try:
        return run(turn, *arguments)
    except (NoCompilerError, UntraceableError) as error:
        _uncompiled.add(type(turn.rule))
        if isinstance(error, NoCompilerError):
            _warn_once(f"{error}; rules run uncompiled, with the same results but slower")
        else:
            name = type(turn.rule).__name__
            _warn_once(f"{name} runs uncompiled, with the same results but slower: {error}")
        return otherwise(turn, *arguments)


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=7)


def _signed(g: Any, maximize: bool) -> Any:
    return -g if maximize else g


# loop: the truth


def _loop_measure(turn: Turn, sums_of: Pass) -> Sums:
    names: list[str] = []
    rows: list[list[float]] = []
    turn = _opened(turn)
    for p, g, state, k in zip(turn.p, turn.g, turn.states, _numbers(turn), strict=True):
        g = _signed(g, turn.maximize)
        apart = turn.modifiers or sums_of.kind == "direction"
        if p.dtype.itemsize < 4:  # kernels sum in double, and 16 bits cannot hold a sum
            g, p = wide(g), wide(p)
            s = State.of({n: wide(x) if isinstance(x, Tensor) else x for n, x in state.items()})
        else:
            s = _apart(state) if apart else State.of(state)
        sums = sums_of.sums(turn.rule, turn.modifiers, g, p, s, k)
        names = list(sums)
        rows.append([float(distributed.gathered(value)) for value in sums.values()])
    return names, torch.tensor(rows, dtype=torch.float64).reshape(len(rows), len(names))


def _apart(state: dict[str, Any]) -> State:
    """Return a view on copies, for formulas that write."""
    return State.of({n: x.clone() if isinstance(x, Tensor) else x for n, x in state.items()})


def _numbers(turn: Turn) -> list[Numbers]:
    """Return the numbers of each tensor."""
    if not turn.modifiers and not any(turn.each):
        return [turn.k] * len(turn.each)
    return [Numbers(**vars(turn.k), **each) for each in turn.each]


def _opened(turn: Turn) -> Turn:
    """Return the turn with compressed state as tensors that formulas can work on."""
    if turn.bits is None:
        return turn
    states = [storage.opened(*one) for one in zip(turn.states, turn.p, strict=True)]
    return turn._replace(states=states, bits=None)


def _stored(update: Callable[[Turn], None]) -> Callable[[Turn], None]:
    """Return the update around which compressed state is opened and stored again."""

    def run(turn: Turn) -> None:
        worked = _opened(turn)
        update(worked)
        if turn.bits is not None:
            step = int(getattr(turn.k, ROUNDING))
            for state, after in zip(turn.states, worked.states, strict=True):
                storage.close(state, after, step)

    return run


@_stored
def _loop_update(turn: Turn) -> None:
    rule, modifiers, numbers = turn.rule, turn.modifiers, _numbers(turn)
    states = [State.of(state) for state in turn.states]
    gradients = _seen(turn, states, numbers)
    if any(turn.each):
        each = zip(gradients, turn.p, states, numbers, strict=True)
        directions: Iterable[Tensor] = (rule.update(*one) for one in each)
    else:
        directions = rule.update_all(gradients, turn.p, states, turn.k)
    for i, d in enumerate(directions):
        p, k = turn.p[i], numbers[i]
        d = distributed.like(d, p)
        subtracted: list[Tensor] = []
        if modifiers:
            d, subtracted = _redirected(turn, i, d, gradients[i], states[i], k)
        if k.decay != 0:
            p.mul_(1 - k.decay)
        p.add_(d, alpha=-k.step_size)
        for x in subtracted:
            p.sub_(x)


def seen_gradients(turn: Turn) -> list[Tensor]:
    """Return the gradients as the rule sees them, for sums that are known; state moves on."""
    turn = _opened(turn)
    return _seen(turn, [State.of(state) for state in turn.states], _numbers(turn))


def _seen(turn: Turn, states: list[State], numbers: list[Numbers]) -> list[Tensor]:
    gradients = [_signed(g, turn.maximize) for g in turn.g]
    if not turn.modifiers:
        return gradients
    each = zip(gradients, turn.p, states, numbers, strict=True)
    return [transformed(turn.modifiers, *one) for one in each]


def _redirected(
    turn: Turn, i: int, d: Tensor, g: Tensor, s: State, k: Numbers
) -> tuple[Tensor, list[Tensor]]:
    """Return the direction after all modifiers, and what they subtract besides."""
    p, modifiers = turn.p[i], turn.modifiers
    for sums_of in direction_passes(modifiers):
        modifier = modifiers[sums_of.index]
        sums = sums_of.of_direction(modifiers, d, g, p, s, k)
        values = {
            name: float(distributed.summed(value, turn.whole[i])) for name, value in sums.items()
        }
        vars(k).update(numbers_from(modifier, values, turn.whole[i]))
    d = redirected(modifiers, d, g, p, s, k)
    return d, decayed(modifiers, d, p, k)


# foreach: many small tensors without a compiler


def _foreach_measure(turn: Turn, sums_of: Pass) -> Sums:
    if any(p.dtype.itemsize < 4 for p in turn.p):
        return _loop_measure(turn, sums_of)
    g, p, s = _lists(_opened(turn))
    sums = sums_of.sums(turn.rule, (), g, p, s, turn.k)
    rows = torch.zeros(len(turn.p), len(sums), dtype=torch.float64)
    rows[0] = torch.stack([x.to("cpu", torch.float64) for x in sums.values()])
    return list(sums), rows


@_stored
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
    names = state_names(turn.states)
    columns = {name: TensorList([state[name] for state in turn.states]) for name in names}
    return _signed(TensorList(turn.g), turn.maximize), TensorList(turn.p), State(**columns)


# compiled: one C loop over all of them


def _compiled_measure(turn: Turn, sums_of: Pass) -> Sums:
    return _compiled(turn, sums_of)


def _compiled_update(turn: Turn) -> None:
    for sums_of in direction_passes(turn.modifiers):
        modifier = turn.modifiers[sums_of.index]
        names, rows = _compiled(turn, sums_of)
        rows = distributed.summed(rows.flatten(), turn.whole[0]).reshape(rows.shape)
        for p, each, row in zip(turn.whole, turn.each, rows.tolist(), strict=True):
            each.update(numbers_from(modifier, dict(zip(names, row, strict=True)), p))
    _compiled(turn, None)


def _compiled(turn: Turn, sums_of: Pass | None) -> Sums:
    found = turn.cache.now
    if found is None:
        kinds = _by_dtypes(turn)
        if len(kinds) > 1:
            parts = [(kind, _compiled(turn.only(kind), sums_of)) for kind in kinds]
            return _joined(len(turn.p), parts)
        found = places(turn.g, turn.p, turn.states)
    kernel = _kernel(turn, sums_of, found.names, found.dtypes)
    each = [list(one.values()) for one in turn.each] if turn.each[0] else []
    values = list(vars(turn.k).values())
    rows = kernel(found.addresses, found.sizes, found.entries, values, each)
    return list(kernel.sums), torch.from_numpy(rows)


def _by_dtypes(turn: Turn) -> list[list[int]]:
    """Return the indices of the tensors whose gradient, parameter and state have one dtype each."""
    names = state_names(turn.states)
    columns = [turn.g, turn.p, *[[state[name] for state in turn.states] for name in names]]
    kinds: dict[Any, list[int]] = {}
    for i, row in enumerate(zip(*columns, strict=True)):
        kinds.setdefault(tuple(map(dtype_of, row)), []).append(i)
    return list(kinds.values())


_kernels: dict[Any, Kernel] = {}


def _kernel(
    turn: Turn,
    sums_of: Pass | None,
    state: tuple[str, ...],
    dtypes: tuple[torch.dtype, ...],
) -> Kernel:
    numbers, each = tuple(vars(turn.k)), tuple(turn.each[0])
    shapes = tuple(map(_structure, (turn.rule, *turn.modifiers)))
    key = (sums_of, shapes, state, numbers, each, dtypes, turn.maximize, turn.bits)
    kernel = _kernels.get(key)
    if kernel is None:
        known = (*numbers, *each)
        formula = trace(turn.rule, turn.modifiers, sums_of, state, known, turn.maximize)
        arrays = ("g", "p", *state)
        stochastic = turn.bits is not None
        kernel = _kernels[key] = Kernel(formula, arrays, numbers, each, dtypes, stochastic)
    return kernel


def _structure(owner: Any) -> tuple[Any, ...]:
    """Return what chooses the formula of a rule or modifier."""
    names = structural_fields(type(owner))
    return (type(owner), *(getattr(owner, name) for name in names))


def _is_flat(p: Tensor, g: Tensor, state: dict[str, Any]) -> bool:
    """Return whether gradient, parameter and state lie in memory alike, without gaps, on a CPU."""
    if type(p) not in PLAIN or p.dtype not in STORAGE or not p.is_cpu or p.numel() == 0:
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
    measure: Callable[[Turn, Pass], Sums]
    update: Callable[[Turn], Any]
    otherwise: Callable[[Turn], Any] | None = None


_LOOP = _Way(_loop_measure, _loop_update)
_FOREACH = _Way(_foreach_measure, _foreach_update)
_COMPILED = _Way(_compiled_measure, _compiled_update)
