"""What a rule is: its hyper-parameters, its state, its numbers, its formula for one tensor."""

import dataclasses
import math
import typing
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal

from torch import Tensor

from thalweg.core.errors import UsageError, did_you_mean


class Numbers:
    """The numbers of one step by attribute: every float that an update may use."""

    def __init__(self, **numbers: Any) -> None:
        vars(self).update(numbers)

    if typing.TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...


class State(Numbers):
    """One tensor's state by attribute; assignments reach the optimiser's own dictionary."""

    @classmethod
    def of(cls, entries: dict[str, Any]) -> typing.Self:
        """Return a view on the dictionary, not a copy."""
        view = cls()
        view.__dict__ = entries
        return view


@dataclass(frozen=True)
class Rule:
    """A training rule: the fields are its hyper-parameters, the methods its formula.

    A subclass is a frozen dataclass that says what state it starts with, which numbers depend on
    the step, and the direction ``d`` for one tensor. The engine then applies, with the two
    numbers of `step_and_decay`,

        p <- (1 - decay) p - step d

    and does all the rest: groups, closures, executions, dtypes, sharding, saving, errors.

    `update` gets ``g`` and ``p`` to read only; tensors in ``s`` may be written in place or
    assigned anew. Floats come from ``k`` alone, so that a changed number never recompiles
    anything; fields annotated ``bool``, ``int`` or ``str`` choose the formula and may be read
    from ``self``. Where a method must branch on a number, `scalars` does, in plain Python.

    Attributes:
        reads: "element" if every entry of a tensor is updated independently of the others (apart
            from what `measure` and `measure_each` return); such a rule is compiled and runs on
            local shards. "tensor" if the formula needs the tensor's shape.
        shares: "run" if the sums of `measure` and the `shared` numbers belong to all groups
            together, "group" if each group has its own.
        needs_loss: whether ``k.loss`` has to be there: the value that ``step(closure)`` returned.
        lr: learning rate, >= 0.
        weight_decay: what it multiplies is the rule's choice, >= 0.
    """

    reads: ClassVar[Literal["element", "tensor"]] = "element"
    shares: ClassVar[Literal["run", "group"]] = "run"
    needs_loss: ClassVar[bool] = False

    lr: float = 1e-3
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        convert_fields(self, _rule_name(type(self)))
        self.check()

    def check(self) -> None:
        """Refuse impossible values; the base knows the common names.

        Raises:
            UsageError: a value outside its range; the message says which and what is allowed.
        """
        for name in ("lr", "weight_decay"):
            value = getattr(self, name)
            require(self, name, value is None or value >= 0, "at least 0")
        eps = getattr(self, "eps", 0.0)
        if isinstance(eps, float):
            require(self, "eps", eps >= 0, "at least 0")
        betas = getattr(self, "betas", ())
        require(self, "betas", all(0 <= beta < 1 for beta in betas), "each in [0, 1)")

    def formula(self, p: Tensor) -> "type[Rule]":
        """Return the rule that a tensor takes: this one, or another of the same fields.

        Tensors of one formula step together. `init` is always this rule's.
        """
        del p
        return type(self)

    def init(self, p: Tensor) -> dict[str, Any]:
        """Return the state that a parameter starts with; none unless a rule says otherwise.

        Tensors, and floats that belong to the whole tensor (see `numbers_each`).
        """
        del p
        return {}

    def shared(self) -> dict[str, float]:
        """Return the numbers that tensors share and steps change (Prodigy's d); see `shares`."""
        return {}

    def scalars(self, t: int) -> dict[str, float]:
        """Return the numbers of step ``t`` (from 1) that depend on it or on the hyper-parameters.

        They join ``lr``, ``weight_decay`` and the `shared` numbers in ``k``.
        """
        del t
        return {}

    def measure(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Mapping[str, Tensor]:
        """Return 0-d sums over one tensor that the engine adds up over all tensors and ranks.

        Over those of each group apart where `shares` is "group". Reads only. Element-wise rules
        build each from an element-wise expression and ``.sum()``.
        """
        del g, p, s, k
        return {}

    def advance(self, shared: MutableMapping[str, float], measured: Mapping[str, float]) -> None:
        """Move the `shared` numbers on by one step, given the sums of `measure`."""
        del shared, measured

    def measure_each(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Mapping[str, Tensor]:
        """Return 0-d sums over one tensor that its own update needs, such as a squared norm.

        Like `measure`, after it, and kept apart for each tensor: see `numbers_each`.
        """
        del g, p, s, k
        return {}

    def numbers_each(
        self, sums: Mapping[str, float], p: Tensor, s: State, k: Numbers
    ) -> dict[str, float]:
        """Return the numbers that join ``k`` for one tensor, from its sums; plain Python.

        Floats in ``s`` may be read and assigned; of ``p`` the shape may be read, nothing else.
        The default is the sums themselves.
        """
        del p, s, k
        return dict(sums)

    def step_and_decay(self, k: Numbers) -> tuple[float, float]:
        """Return ``step`` and ``decay`` of ``p <- (1 - decay) p - step d``.

        The default is decoupled weight decay: ``lr`` and ``lr * weight_decay``.
        """
        return k.lr, k.lr * k.weight_decay

    def update(self, g: Tensor, p: Tensor, s: State, k: Numbers) -> Tensor:
        """Return the direction ``d`` for one tensor, shaped like it, and move the state on."""
        if type(self).update_all is Rule.update_all:
            raise NotImplementedError(f"{type(self).__name__} has no update")
        (d,) = self.update_all([g], [p], [s], k)
        return d

    def update_all(
        self, g: Sequence[Tensor], p: Sequence[Tensor], s: Sequence[State], k: Numbers
    ) -> Iterable[Tensor]:
        """Return the directions of several tensors, in order; one `update` after the other.

        Rules that read tensors may define it in place of `update`, to treat equal shapes together.
        """
        for one in zip(g, p, s, strict=True):
            yield self.update(*one, k)

    def takes(self, p: Tensor) -> bool:
        """Return whether the rule serves this tensor; the rest is routed to a second rule."""
        del p
        return True

    @classmethod
    def fields(cls) -> dict[str, Any]:
        """Return the hyper-parameters with their defaults."""
        return {field.name: field.default for field in dataclasses.fields(cls)}

    @classmethod
    def from_hyper(cls, hyper: Mapping[str, Any]) -> typing.Self:
        """Return the rule with these hyper-parameters.

        Raises:
            UsageError: an unknown name (the message offers the nearest) or an impossible value.
        """
        known = cls.fields()
        for name in hyper:
            if name not in known:
                raise unknown_hyper(_rule_name(cls), name, known)
        return cls(**hyper)


def measures(rule: type[Rule]) -> bool:
    """Return whether the rule needs sums over all tensors before it can update."""
    return rule.measure is not Rule.measure


def measures_each(rule: type[Rule]) -> bool:
    """Return whether the rule needs sums over each tensor before it can update that."""
    return rule.measure_each is not Rule.measure_each


def has_formulas(rule: type[Rule]) -> bool:
    """Return whether some tensors take another formula than others."""
    return rule.formula is not Rule.formula


def has_shared(rule: type[Rule]) -> bool:
    """Return whether the rule carries numbers that belong to the whole run, or group."""
    return rule.shared is not Rule.shared


@cache
def structural_fields(owner: type) -> tuple[str, ...]:
    """Return the names of the fields that choose the formula.

    These are the ones without a float in them, and those with ``structural`` in their metadata,
    whose numbers each have a kernel of their own.
    """
    fields = {field.name: field for field in dataclasses.fields(owner)}
    return tuple(
        name
        for name, hint in hints(owner).items()
        if not _holds_float(hint) or fields[name].metadata.get("structural")
    )


def unknown_hyper(owner: str, name: str, known: Mapping[str, Any]) -> UsageError:
    """Return the error for a hyper-parameter that a rule does not have."""
    hint = did_you_mean(name, known)
    return UsageError(f'{owner} has no "{name}".{hint} It takes {", ".join(known)}.')


def require(rule: Rule, name: str, holds: bool, allowed: str) -> None:
    """Raise a `UsageError` unless ``holds``: the field must be ``allowed``."""
    if not holds:
        value = getattr(rule, name)
        raise UsageError(f"{_rule_name(type(rule))}: {name} must be {allowed}, found {value!r}")


def _rule_name(rule: type[Rule]) -> str:
    return rule.__name__.removesuffix("Rule")


@cache
def hints(owner: type) -> dict[str, Any]:
    """Return the annotations of a dataclass's fields by name."""
    found = typing.get_type_hints(owner)
    return {field.name: found[field.name] for field in dataclasses.fields(owner)}


def _holds_float(hint: Any) -> bool:
    return hint is float or any(_holds_float(part) for part in typing.get_args(hint))


def convert_fields(value: Any, owner: str) -> None:
    """Bring a frozen dataclass's fields to what their annotations say.

    Raises:
        UsageError: a field that does not fit; the message names the ``owner``.
    """
    for name, convert in _conversions(type(value), owner):
        object.__setattr__(value, name, convert(name, getattr(value, name)))


@cache
def _conversions(cls: type, owner: str) -> tuple[tuple[str, Any], ...]:
    return tuple((name, _converter(owner, hint)) for name, hint in hints(cls).items())


def _converter(owner: str, hint: Any) -> Any:
    def convert(name: str, value: Any) -> Any:
        try:
            return _convert(hint, value)
        except (TypeError, ValueError) as error:
            expected = _spell(hint)
            raise UsageError(f"{owner}: {name} must be {expected}, found {value!r}") from error

    return convert


def _convert(hint: Any, value: Any) -> Any:
    """Return the value as the hint has it; a type or value error if it does not fit."""
    if hint is float:
        if type(value) is float:
            number = value
        elif isinstance(value, bool | str):
            raise TypeError
        else:
            number = float(value)
        if math.isnan(number):
            raise ValueError
        return number
    if hint is int:
        if isinstance(value, bool | str) or int(value) != value:
            raise TypeError
        return int(value)
    if hint is bool or hint is str or hint is type(None):
        if not isinstance(value, hint):
            raise TypeError
        return value
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        values = tuple(value)
        if len(values) != len(parts):
            raise ValueError
        return tuple(map(_convert, parts, values))
    if origin is Literal:
        if value not in parts:
            raise ValueError
        return value
    for part in parts:
        try:
            return _convert(part, value)
        except (TypeError, ValueError):
            continue
    raise TypeError


def _spell(hint: Any) -> str:
    """Return the hint in words."""
    words = {float: "a number", int: "a whole number", bool: "True or False", str: "a string"}
    if hint in words:
        return words[hint]
    parts = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        return f"{len(parts)} values ({', '.join(map(_spell, parts))})"
    if typing.get_origin(hint) is Literal:
        return " or ".join(repr(part) for part in parts)
    return " or ".join("None" if part is type(None) else _spell(part) for part in parts)
