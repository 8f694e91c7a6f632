"""Labels of axes: which units lie along them, and which are the same units.

The label of an axis is a product of units, the last varying fastest: a flattened map is (channels,
height, width). A unit may turn out to be the same as another, a product of others, or several
stretches one after the other. What no permutation may move is fixed, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Label = tuple["Unit", ...]


@dataclass(eq=False)
class Unit:
    """Some units along an axis.

    Attributes:
        size: how many.
        product: what they are instead: another label.
        parts: or labels one after the other.
        fixed: why their order is kept, if it is.
        leads: the units that this one stands behind in the axis that both were split from. One
            place of a lead may have units of its own there (`taken`).
        places: those units, by lead and place.
    """

    size: int
    product: Label | None = None
    parts: tuple[Label, ...] | None = None
    fixed: str | None = None
    leads: tuple[Unit, ...] = ()
    places: dict[tuple[Unit, int], Unit] = field(default_factory=dict)


class Refused(Exception):  # noqa: N818
    """Labels that cannot be made the same, or split, in units that we know."""


def fresh(size: int, reason: str | None = None) -> Label:
    """Return the label of new units."""
    return () if size == 1 else (Unit(size, fixed=reason),)


def size_of(label: Label) -> int:
    """Return how many indices a label stands for."""
    return math.prod(unit.size for unit in label)


def expand(label: Label) -> Label:
    """Return the label in units that are nothing else; those of parts are kept whole."""
    found: list[Unit] = []
    for unit in label:
        if unit.product is not None:
            found += expand(unit.product)
        elif unit.parts is not None and len(unit.parts) == 1:
            found += expand(unit.parts[0])
        elif unit.size != 1:
            found.append(unit)
    return tuple(found)


def parts_of(unit: Unit) -> list[Label]:
    """Return a unit's parts, none of which is parts alone."""
    found: list[Label] = []
    for part in unit.parts or ():
        items = expand(part)
        if len(items) == 1 and items[0].parts is not None:
            found += parts_of(items[0])
        else:
            found.append(items)
    return found


def atoms(label: Label) -> Iterable[Unit]:
    """Give all units in a label that are nothing else."""
    for unit in expand(label):
        if unit.parts is None:
            yield unit
        else:
            for part in unit.parts:
                yield from atoms(part)


def join(labels: Sequence[Label]) -> Label:
    """Return the label of several stretches one after the other."""
    if len(labels) == 1:
        return labels[0]
    # An index alone is a unit that nothing can be exchanged with unless it is looked at as one.
    parts = tuple(label or (Unit(1),) for label in labels)
    return (Unit(sum(size_of(p) for p in parts), parts=parts),)


def fix(label: Label, reason: str) -> None:
    """Keep the order of all units of a label."""
    for unit in expand(label):
        if unit.parts is not None:
            for part in unit.parts:
                fix(part, reason)
            continue
        unit.fixed = unit.fixed or reason
        for place in unit.places.values():
            fix((place,), reason)


def same(one: Label, other: Label, reason: str) -> None:
    """Make two labels the same; what cannot be is fixed.

    Args:
        one: a label.
        other: another of the same length.
        reason: what is said of units that have to be fixed.
    """
    if size_of(one) != size_of(other):
        raise AssertionError(f"labels of {size_of(one)} and {size_of(other)} indices")
    left, right = list(expand(one)), list(expand(other))
    while left and right:
        a, b = left[0], right[0]
        if a is b:
            del left[0], right[0]
            continue
        if a.size == b.size:
            del left[0], right[0]
            _merge(a, b, reason)
            continue
        small, large, rest = (a, b, right) if a.size < b.size else (b, a, left)
        try:
            rest[0:1] = split(large, small.size)
        except Refused:
            fix(tuple(left), reason)
            fix(tuple(right), reason)
            return
        left, right = list(expand(tuple(left))), list(expand(tuple(right)))


def split(unit: Unit, lead: int) -> Label:
    """Return a unit as a product whose first factor has the given size.

    Raises:
        Refused: it does not divide.
    """
    if unit.size % lead or unit.size == lead:
        raise Refused
    behind = unit.size // lead
    if unit.parts is not None:
        parts = parts_of(unit)
        if len(parts) != lead or any(size_of(part) != behind for part in parts):
            raise Refused
        for part in parts[1:]:
            same(parts[0], part, "parts of it are read as copies")
        first = Unit(lead, fixed="parts of it have places of their own")
        unit.parts, unit.product = None, (first, *parts[0])
        return unit.product
    if unit.places:
        touch(unit)
        if unit.product is not None or unit.parts is not None:
            raise Refused
    first = Unit(lead, fixed=unit.fixed, leads=unit.leads)
    second = Unit(behind, fixed=unit.fixed, leads=(*unit.leads, first))
    unit.product = (first, second)
    return unit.product


def touch(unit: Unit) -> None:
    """Say that all places of a unit's leads have the same units."""
    places = list(unit.places.values())
    unit.places, unit.leads = {}, ()
    for place in places:
        same((place,), (unit,), "it is used as a whole and in parts")


def taken(label: Label, lead: Unit, place: int) -> Label:
    """Return the label of what stands at one place of a unit on another axis."""
    found = []
    for unit in expand(label):
        if lead in unit.leads:
            key = (lead, place)
            if key not in unit.places:
                leads = tuple(one for one in unit.leads if one is not lead)
                unit.places[key] = Unit(unit.size, fixed=unit.fixed, leads=leads)
            unit = unit.places[key]
        found.append(unit)
    return tuple(found)


def cut(label: Label, at: int) -> tuple[Label, Label]:
    """Return the label of the first indices and that of the others.

    Raises:
        Refused: the cut goes through units that we cannot tell apart.
    """
    items = expand(label)
    total = size_of(items)
    if len(items) != 1:
        behind = total // items[0].size
        if at % behind:
            raise Refused
        first, second = cut(items[:1], at // behind)
        return (*first, *items[1:]), (*second, *items[1:])
    (unit,) = items
    if unit.parts is None:
        touch(unit)
        unit.parts = (_piece(unit, at), _piece(unit, total - at))
        return unit.parts
    before: list[Label] = []
    rest = parts_of(unit)
    left = at
    while left:
        part = rest[0]
        if size_of(part) <= left:
            before.append(rest.pop(0))
            left -= size_of(part)
        else:
            first, second = cut(part, left)
            before.append(first or (Unit(1),))
            rest[0] = second or (Unit(1),)
            left = 0
    return join(before), join(rest)


def _piece(unit: Unit, size: int) -> Label:
    return (Unit(size, fixed=unit.fixed),)


def _merge(a: Unit, b: Unit, reason: str) -> None:
    """Make two different units of one size the same."""
    if a.parts is None and b.parts is None:
        touch(a)
        touch(b)
        if any(unit.product is not None or unit.parts is not None for unit in (a, b)):
            same((a,), (b,), reason)
            return
        b.fixed = b.fixed or a.fixed
        a.product = (b,)
    elif a.parts is not None and b.parts is not None:
        _merge_parts(a, b, reason)
    else:
        atom, whole = (a, b) if a.parts is None else (b, a)
        touch(atom)
        if atom.product is not None:
            same((atom,), (whole,), reason)
            return
        if atom.fixed:
            fix((whole,), atom.fixed)
        atom.product = (whole,)


def _merge_parts(a: Unit, b: Unit, reason: str) -> None:
    left, right = parts_of(a), parts_of(b)
    try:
        while left:
            short = min(size_of(left[0]), size_of(right[0]))
            for side in (left, right):
                if size_of(side[0]) > short:
                    first, second = cut(side[0], short)
                    side[0:1] = [first, second]
            same(left.pop(0), right.pop(0), reason)
    except Refused:
        fix((a,), reason)
        fix((b,), reason)


def reshaped(labels: Sequence[Label], sizes: Sequence[int], reason: str) -> list[Label]:
    """Return the labels of axes after they were merged and split anew."""
    pending = [unit for label in labels for unit in expand(label)]
    result: list[Label] = []
    wanted = list(sizes)
    while wanted:
        size = wanted.pop(0)
        found: list[Unit] = []
        left = size
        failed = False
        while left > 1:
            unit = pending[0]
            if left % unit.size == 0:
                found.append(pending.pop(0))
                left //= unit.size
                continue
            try:
                if unit.size % left:
                    raise Refused
                pending[0:1] = expand(split(unit, left))
            except Refused:
                failed = True
                break
        if not failed:
            result.append(tuple(found))
            continue
        # Everything up to the next common boundary loses its meaning.
        stretch, have, need, axes = list(found), math.prod(u.size for u in found), size, [size]
        while have != need:
            if have < need:
                stretch.append(pending.pop(0))
                have *= stretch[-1].size
            else:
                axes.append(wanted.pop(0))
                need *= axes[-1]
        fix(tuple(stretch), reason)
        result += [fresh(one, reason) for one in axes]
    return result
