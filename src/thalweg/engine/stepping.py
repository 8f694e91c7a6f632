"""One step of all groups: what has to be summed first, then the update."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from torch import Tensor

from thalweg.engine import execution
from thalweg.engine.distributed import like_local
from thalweg.engine.execution import Execution, Sums, Turn
from thalweg.engine.kernel import ROUNDING
from thalweg.engine.modifier import (
    Modifiers,
    Pass,
    gradient_passes,
    named,
    numbers_from,
    numbers_of,
)
from thalweg.engine.plan import Part
from thalweg.engine.rule import Numbers, Rule, State, has_shared, measures, measures_each
from thalweg.engine.storage import Bits

Group = dict[str, Any]


def run(
    parts: list[tuple[Group, Part]],
    modifiers: Modifiers,
    loss: float | None,
    way: Execution,
    bits: Bits | None,
) -> None:
    """Take the step of all parts, whose sums are shared, and move their groups' numbers on."""
    turns = [(group, part, _turn(group, part, modifiers, loss, bits)) for group, part in parts]
    for sums_of in gradient_passes(modifiers):
        _measure_modifier([turn for _, _, turn in turns], sums_of, way)
    _share(turns, loss, way)
    for _, _, turn in turns:
        if measures_each(type(turn.rule)):
            rows = execution.by_tensor(execution.measure(turn, Pass("measure_each"), way))
            tensors = zip(turn.whole, turn.states, turn.each, rows, strict=True)
            for p, state, each, sums in tensors:
                each.update(turn.rule.numbers_each(sums, p, State.of(state), turn.k))
    for _, part, turn in turns:
        execution.update(turn, way)
        part.close()


def seen_gradients(
    parts: list[tuple[Group, Part]], modifiers: Modifiers, bits: Bits | None
) -> dict[Tensor, Tensor]:
    """Return the gradients of all parts as their rules would see them; their state moves on."""
    turns = [_turn(group, part, modifiers, None, bits) for group, part in parts]
    for sums_of in gradient_passes(modifiers):
        _measure_modifier(turns, sums_of, "loop")
    return {
        p: like_local(g, p)
        for turn in turns
        for p, g in zip(turn.whole, execution.seen_gradients(turn), strict=True)
    }


def _turn(
    group: Group, part: Part, modifiers: Modifiers, loss: float | None, bits: Bits | None
) -> Turn:
    if any(modifier.replaces_decay for modifier in modifiers):
        part.rule = replace(part.rule, weight_decay=0.0)
    k = _numbers(group, part, modifiers, loss)
    if bits is not None:
        vars(k)[ROUNDING] = part.t
    each: list[dict[str, float]] = [{} for _ in part.p]
    return Turn(
        part.rule,
        modifiers,
        part.whole,
        part.p,
        part.g,
        part.states,
        k,
        each,
        part.maximize,
        bits,
        part.cache,
    )


def _numbers(group: Group, part: Part, modifiers: Modifiers, loss: float | None) -> Numbers:
    """Return the numbers of the part's step."""
    rule = part.rule
    shared = {name: group[name] for name in rule.shared()}
    k = Numbers(lr=rule.lr, weight_decay=rule.weight_decay, **shared, **rule.scalars(part.t))
    if rule.needs_loss:
        vars(k)["loss"] = loss
    step, decay = rule.step_and_decay(k)
    vars(k).update(step_size=step, decay=decay)
    if modifiers:
        first = group.get("initial_lr", rule.lr)
        vars(k)["lr_factor"] = rule.lr / first if first else 1.0
        vars(k)["group_decay"] = group["weight_decay"]
    for modifier in modifiers:
        vars(k).update(numbers_of(modifier))
    return k


def _measure_modifier(turns: list[Turn], sums_of: Pass, way: Execution) -> None:
    """Give each tensor, or all, the numbers that a modifier makes of sums over gradients."""
    measured = [execution.measure(turn, sums_of, way) for turn in turns]
    total = _added(measured)
    for turn, some in zip(turns, measured, strict=True):
        modifier = turn.modifiers[sums_of.index]
        if modifier.scope == "all":
            vars(turn.k).update(named(modifier, modifier.measured(total)))
        else:
            tensors = zip(turn.whole, turn.each, execution.by_tensor(some), strict=True)
            for p, each, sums in tensors:
                each.update(numbers_from(modifier, sums, p))


def _share(turns: list[tuple[Group, Part, Turn]], loss: float | None, way: Execution) -> None:
    """Move on the numbers that tensors share, after the sums that they depend on."""
    sums: dict[int, list[Sums]] = {}
    for group, _, turn in turns:
        if measures(type(turn.rule)):
            found = execution.measure(turn, Pass("measure"), way)
            sums.setdefault(_sharing(turn.rule, group), []).append(found)
    totals = {key: _added(measured) for key, measured in sums.items()}
    done: list[int] = []
    for group, part, _ in turns:
        if has_shared(type(part.rule)) and id(group) not in done:
            done.append(id(group))
            shared = {name: group[name] for name in part.rule.shared()}
            part.rule.advance(shared, totals.get(_sharing(part.rule, group), {}))
            group.update(shared)
    for group, part, turn in turns:
        if has_shared(type(part.rule)):
            vars(turn.k).update(vars(_numbers(group, part, turn.modifiers, loss)))


def _sharing(rule: Rule, group: Group) -> int:
    """Return the key of the tensors that share sums: those of the group, or 0 for all."""
    return id(group) if rule.shares == "group" else 0


def _added(measured: Iterable[Sums]) -> dict[str, float]:
    """Return the totals over all tensors by name."""
    total: dict[str, float] = {}
    for names, rows in measured:
        for name, value in zip(names, rows.sum(dim=0).tolist(), strict=True):
            total[name] = total.get(name, 0.0) + value
    return total
